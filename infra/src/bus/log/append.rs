//! The wait of an append for what it needs: a segment with room, or a sync. Never writes itself.

use super::{shared::Shared, spare::SpareSlot, writer::Outcome};
use crate::bus::BusError;

/// Calls `append` until it is written, waiting for the next segment between the calls, and waits for its sync.
/// A call that answers [`Outcome::NoSegment`] wrote nothing.
pub(super) async fn append_or_wait<T>(
    shared: &Shared,
    spare: &SpareSlot,
    mut append: impl FnMut() -> Result<Outcome<T>, BusError>,
) -> Result<T, BusError> {
    loop {
        let mut changed = std::pin::pin!(spare.changed.notified());
        changed.as_mut().enable();
        match append()? {
            Outcome::Done(value) => return Ok(value),
            Outcome::Waits(answer) => return answer.await.unwrap_or(Err(BusError::Closed)),
            Outcome::NoSegment => {
                shared.check_open()?;
                if spare.is_disk_full() {
                    return Err(BusError::DiskFull);
                }
                changed.await;
            }
        }
    }
}
