//! The tensors of a checkpoint's file: a torch archive, or a safetensors file with the same names.

use super::error::{Fault, REAL};
use super::pickle::read_state_dict;
use super::tensor::{Storage, StorageKind, TensorView};
use super::zip::Archive;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;

/// Tensors by name.
pub(super) type Tensors<'a> = BTreeMap<String, TensorView<'a>>;

/// First bytes of a zip archive.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";

/// Reads the list of tensors. Together they have no more bytes than the file, so whoever copies each
/// of them once allocates no more than that.
pub(super) fn read(bytes: &[u8]) -> Result<Tensors<'_>, Fault> {
    // The header of a safetensors file follows its length in 64 bits.
    let is_safetensors = !bytes.starts_with(ZIP) && bytes.get(8) == Some(&b'{');
    let tensors = if is_safetensors { of_safetensors(bytes)? } else { of_torch(bytes)? };
    let total = tensors.values().map(|tensor| tensor.bytes() as u64).sum();
    let file = bytes.len() as u64;
    if total > file { Err(Fault::Shared { tensors: total, file }) } else { Ok(tensors) }
}

/// ```text
/// NAME/data.pkl     the pickle       NAME/byteorder  "little", where torch wrote it
/// NAME/data/KEY     the storages
/// ```
fn of_torch(bytes: &[u8]) -> Result<Tensors<'_>, Fault> {
    let archive = Archive::read(bytes)?;
    let folder =
        |name: &'_ str| name.strip_suffix("/data.pkl").filter(|folder| !folder.contains('/')).map(str::to_owned);
    let folders: Vec<String> = archive.names().filter_map(folder).collect();
    let [folder] = folders.as_slice() else { return Err(Fault::Pickles(folders.len())) };
    if let Some(order) = archive.get(&format!("{folder}/byteorder"))
        && order != b"little"
    {
        return Err(Fault::ByteOrder(String::from_utf8_lossy(&order[..order.len().min(20)]).into_owned()));
    }
    let pickle = archive.get(&format!("{folder}/data.pkl")).unwrap_or_default();
    let tensors = read_state_dict(pickle, |key| archive.get(&format!("{folder}/data/{key}")))?;
    Ok(tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

fn of_safetensors(bytes: &[u8]) -> Result<Tensors<'_>, Fault> {
    let tensors = SafeTensors::deserialize(bytes)?.tensors();
    tensors.into_iter().map(|(name, view)| Ok((name.clone(), of_view(name, &view)?))).collect()
}

fn of_view<'a>(name: String, view: &safetensors::tensor::TensorView<'a>) -> Result<TensorView<'a>, Fault> {
    let kind = match view.dtype() {
        Dtype::F16 => StorageKind::F16,
        Dtype::BF16 => StorageKind::BF16,
        Dtype::F32 => StorageKind::F32,
        Dtype::F64 => StorageKind::F64,
        Dtype::C64 => StorageKind::C64,
        other => return Err(Fault::Elements { name, found: format!("{other:?}"), expected: REAL }),
    };
    let storage = Storage { kind, bytes: view.data() };
    TensorView::contiguous(storage, view.shape().to_vec()).map_err(|source| Fault::View { name, source })
}
