//! `--version`: the version, and what the bits of a run depend on.

use crate::Outcome;
use crate::printer::Printer;
use anyhow::Result;
use resnet_bk::device::{Device, cuda};
use resnet_bk::environment::processor;

/// The version with the commit that the program was built from; `unknown` if the sources were not in a
/// repository.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), "\ncommit     ", env!("RESNET_BK_COMMIT"));

/// Prints the text of `-V` or `--version`. The long one goes on with processor and devices.
pub fn print(text: &str, printer: &mut Printer) -> Result<Outcome> {
    printer.line(text.trim_end())?;
    if text.contains(LONG) {
        printer.line(format_args!("processor  {}", processor()))?;
        printer.line(format_args!("device     {}", Device::Cpu))?;
        for (number, name) in cuda::names().iter().enumerate() {
            printer.line(format_args!("device     cuda:{number} ({name})"))?;
        }
    }
    printer.flush()?;
    Ok(Outcome::Done)
}
