//! The `resnet-bk` command.

fn main() {}
