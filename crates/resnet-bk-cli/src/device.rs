//! The device of a command, said in one line.

use crate::observers::ProgressMode;
use anyhow::Result;
use resnet_bk::device::{Device, DeviceChoice, Opened};
use resnet_bk::ranks::Ranks;

/// Opens the device. Rank 0 says which it is, as far as the mode shows it.
pub fn open_on(ranks: &Ranks, choice: DeviceChoice, progress: ProgressMode) -> Result<Device> {
    let opened = choice.open_on(ranks)?;
    if ranks.leads() {
        say(&opened, ranks.count(), progress);
    }
    Ok(opened.0)
}

/// A device as it is written on the command line.
pub fn parse(text: &str) -> Result<DeviceChoice, String> {
    text.parse().map_err(|error| match text.split_once(':') {
        Some(("cuda", numbers)) if numbers.contains(',') => {
            format!("'{numbers}' is not the number of one GPU; each process trains on one, and mpirun starts several")
        }
        _ => error,
    })
}

/// Opens the device and says which it is.
pub fn open(choice: DeviceChoice) -> Result<Device> {
    open_on(&Ranks::alone(), choice, ProgressMode::Lines)
}

fn say((device, unusable): &Opened, processes: usize, progress: ProgressMode) {
    if let Some(error) = unusable {
        progress.warning(&format!("there is a GPU, but it cannot be used: {error}"));
    }
    match (device, processes) {
        (Device::Cuda(_), 2..) => {
            progress.fact(&format!("device: {device}, and a GPU for each other of {processes} processes"));
        }
        _ => progress.fact(&format!("device: {device}")),
    }
}
