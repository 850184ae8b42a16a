//! Builds torch checkpoints, sound ones and others.

/// A tensor to write.
#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) is_complex: bool,
    pub(super) offset: u8,
    pub(super) sizes: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Tensor {
    /// A row-major tensor.
    pub(super) fn new(name: &str, sizes: &[usize], values: &[f32]) -> Self {
        let mut strides = vec![1; sizes.len()];
        for axis in (1..sizes.len()).rev() {
            strides[axis - 1] = strides[axis] * sizes[axis];
        }
        let (class, offset) = ("FloatStorage", 0);
        let (name, sizes, values) = (name.to_owned(), sizes.to_vec(), values.to_vec());
        Self { name, class, is_complex: false, offset, sizes, strides, values }
    }

    /// A complex number.
    fn complex(name: &str, values: [f32; 2]) -> Self {
        Self { class: "ComplexFloatStorage", is_complex: true, ..Self::new(name, &[], &values) }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn elements(&self) -> usize {
        if self.is_complex { self.values.len() / 2 } else { self.values.len() }
    }
}

/// The tensors of a model with 3 words, width 2, windows of 2, one block and one expert of width 4.
pub(super) fn model_tensors() -> Vec<Tensor> {
    let tensor = |name: &str, sizes: &[usize]| {
        let values: Vec<f32> = (0..sizes.iter().product::<usize>()).map(|value| value as f32).collect();
        Tensor::new(&format!("model.{name}"), sizes, &values)
    };
    let constant = |name: &str, sizes: &[usize], value: f32| {
        let count = sizes.iter().product();
        Tensor::new(&format!("model.blocks.0.bk_layer.{name}"), sizes, &vec![value; count])
    };
    vec![
        tensor("token_embedding.weight", &[3, 2]),
        tensor("position_embedding.weight", &[2, 2]),
        tensor("blocks.0.layer_norm.weight", &[2]),
        tensor("blocks.0.layer_norm.bias", &[2]),
        constant("bk_scale", &[], 1.0),
        constant("h0_diag_base", &[1, 2], -2.0),
        constant("h0_sub_base", &[1, 1], 1.0),
        constant("h0_super_base", &[1, 1], 1.0),
        Tensor::complex("model.blocks.0.bk_layer.z", [0.0, 1.0]),
        tensor("blocks.0.bk_layer.moe_ffn.experts.0.0.weight", &[4, 2]),
        tensor("blocks.0.bk_layer.moe_ffn.experts.0.0.bias", &[4]),
        tensor("blocks.0.bk_layer.moe_ffn.experts.0.3.weight", &[2, 4]),
        tensor("blocks.0.bk_layer.moe_ffn.experts.0.3.bias", &[2]),
        tensor("blocks.0.bk_layer.moe_ffn.gating_network.weight", &[1, 2]),
        tensor("blocks.0.bk_layer.moe_ffn.gating_network.bias", &[1]),
        tensor("blocks.0.bk_layer.v_proj.weight", &[1, 2]),
        tensor("blocks.0.bk_layer.v_proj.bias", &[1]),
        tensor("blocks.0.bk_layer.output_proj.weight", &[2, 2]),
        tensor("blocks.0.bk_layer.output_proj.bias", &[2]),
        tensor("layer_norm_final.weight", &[2]),
        tensor("layer_norm_final.bias", &[2]),
        tensor("lm_head.weight", &[3, 2]),
        tensor("lm_head.bias", &[3]),
    ]
}

/// BINUNICODE.
pub(super) fn unicode(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The smallest opcode for a number from 0 on.
pub(super) fn number(value: usize) -> Vec<u8> {
    match value {
        0..=0xff => vec![b'K', value as u8],
        _ => [&[0x8a, 8][..], &(value as u64).to_le_bytes()].concat(),
    }
}

fn tuple(values: &[usize]) -> Vec<u8> {
    [&b"("[..], &values.iter().flat_map(|&value| number(value)).collect::<Vec<u8>>(), b"t"].concat()
}

/// The call that makes a tensor of the storage with this key.
pub(super) fn rebuild(tensor: &Tensor, key: &str) -> Vec<u8> {
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &unicode("storage"),
        format!("ctorch\n{}\n", tensor.class).as_bytes(),
        &unicode(key),
        &unicode("cpu"),
        &number(tensor.elements()),
        b"tQ",
        &number(tensor.offset.into()),
        &tuple(&tensor.sizes),
        &tuple(&tensor.strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A pickle of an OrderedDict of these tensors, as the value of `key` in a dictionary where it is
/// given. The storages are named by their place.
pub(super) fn pickle_of(tensors: &[Tensor], key: Option<&str>) -> Vec<u8> {
    let entries: Vec<u8> = tensors
        .iter()
        .enumerate()
        .flat_map(|(index, tensor)| [unicode(&tensor.name), rebuild(tensor, &index.to_string())].concat())
        .collect();
    let dictionary = [
        &b"ccollections\nOrderedDict\n)Rq\x01("[..],
        &entries,
        b"u}",
        &unicode("_metadata"),
        b"ccollections\nOrderedDict\n)Rsb",
    ]
    .concat();
    let value = match key {
        Some(key) => [
            &b"}q\x00("[..],
            &unicode(key),
            &dictionary,
            &unicode("epoch"),
            b"G\0\0\0\0\0\0\0\0",
            &unicode("list"),
            b"](K\x01Neu",
        ]
        .concat(),
        None => dictionary,
    };
    [b"\x80\x02", &value[..], b"."].concat()
}

/// An archive with this pickle and the storages of tensors.
pub(super) fn archive_of(pickle: &[u8], tensors: &[Tensor]) -> Archive {
    let mut archive = Archive::default();
    archive.add("m/data.pkl", pickle);
    archive.add("m/byteorder", b"little");
    for (index, tensor) in tensors.iter().enumerate() {
        archive.add(&format!("m/data/{index}"), &tensor.bytes());
    }
    archive
}

/// A sound checkpoint.
pub(super) fn checkpoint(tensors: &[Tensor]) -> Vec<u8> {
    archive_of(&pickle_of(tensors, Some("model_state_dict")), tensors).bytes()
}

/// An entry with the fields that tests change.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) local_name: String,
    pub(super) data: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) checksum: u32,
    pub(super) size: u32,
    /// Place of the local header, where it is not the right one.
    pub(super) at: Option<u32>,
}

/// A zip archive.
#[derive(Clone, Default)]
pub(super) struct Archive {
    pub(super) entries: Vec<Entry>,
    /// The number of entries that the end record has, where it is not the right one.
    pub(super) count: Option<u16>,
}

impl Archive {
    pub(super) fn add(&mut self, name: &str, data: &[u8]) {
        self.entries.push(Entry {
            name: name.to_owned(),
            local_name: name.to_owned(),
            data: data.to_vec(),
            flags: 0,
            method: 0,
            checksum: crc32fast::hash(data),
            size: data.len() as u32,
            at: None,
        });
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let at = entry.at.unwrap_or(bytes.len() as u32);
            bytes.extend(b"PK\x03\x04");
            bytes.extend([0; 22]);
            bytes.extend((entry.local_name.len() as u16).to_le_bytes());
            // torch pads with an extra field.
            bytes.extend(3u16.to_le_bytes());
            bytes.extend(entry.local_name.as_bytes());
            bytes.extend(b"ZZZ");
            bytes.extend(&entry.data);
            directory.extend(b"PK\x01\x02\0\0\0\0");
            directory.extend(entry.flags.to_le_bytes());
            directory.extend(entry.method.to_le_bytes());
            directory.extend([0; 4]);
            directory.extend(entry.checksum.to_le_bytes());
            directory.extend(entry.size.to_le_bytes());
            directory.extend(entry.size.to_le_bytes());
            directory.extend((entry.name.len() as u16).to_le_bytes());
            directory.extend([0; 12]);
            directory.extend(at.to_le_bytes());
            directory.extend(entry.name.as_bytes());
        }
        let (start, size) = (bytes.len() as u32, directory.len() as u32);
        bytes.extend(directory);
        let count = self.count.unwrap_or(self.entries.len() as u16);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend(count.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }
}
