//! The device of a command, said in one line.

use crate::printer::note;
use anyhow::Result;
use resnet_bk::device::{Device, DeviceChoice};

/// Opens the device and says which it is.
pub fn open(choice: DeviceChoice) -> Result<Device> {
    let (device, unusable) = choice.open()?;
    if let Some(error) = unusable {
        note(&format!("warning: there is a GPU, but it cannot be used: {error}"));
    }
    note(&format!("device: {device}"));
    Ok(device)
}
