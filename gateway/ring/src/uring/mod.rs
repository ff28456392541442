//! stub
pub(crate) fn check_kernel() -> Result<(), String> {
    Ok(())
}
