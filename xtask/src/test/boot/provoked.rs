//! Bugs of the kernel's own, provoked on purpose.
use super::Boots;
use anyhow::Result;
pub(super) fn run(_boots: &mut Boots<'_>) -> Result<()> {
    Ok(())
}
