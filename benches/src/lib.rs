//! What the benches compare the product to. [`floor`]: bare programs that move the same bytes and judge nothing; [`serve`]:
//! the command line that floors and peers share; [`micro`]:
//! single steps, each alone; [`suite`]: what runs them all in turns and compares.

pub mod floor;
pub mod micro;
pub mod serve;
mod spread;
pub mod suite;
