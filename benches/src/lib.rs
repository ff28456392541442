//! What the benches compare the product to. [`floor`]: bare programs that move the same bytes and judge nothing; [`serve`]:
//! the command line that floors and peers share; [`suite`]: what runs them all in turns and compares.

pub mod floor;
pub mod serve;
pub mod suite;
