//! Reads plain data from TOML values. Errors give the path of the value and describe the expected
//! type without Rust terms.

use crate::spelling::nearest;
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt::{self, Display};
use toml::{Table, Value};

/// An invalid value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueError {
    /// Its path: keys of tables, indices of lists.
    pub path: Vec<String>,
    /// The rest of a sentence that begins with the path.
    pub message: String,
    /// The nearest known name, as a suggestion.
    pub near: Option<String>,
}

impl ValueError {
    /// An error about the value at a path.
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self { path: path.iter().map(|&part| part.to_owned()).collect(), message: message.into(), near: None }
    }

    /// The same error for a value inside `key`.
    pub fn under(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

impl Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.join("."), self.message)
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(&[], message.to_string())
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::new(&[], format!("must be {}, but is {}", kind(&expected.to_string()), shown(found)))
    }

    /// The type is right, but the value is out of range.
    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::new(&[], format!("must be {}, but is {}", range(&expected.to_string()), shown(found)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(&[], format!("must be {}, but has {length} entries", kind(&expected.to_string())))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        unknown_name(found, known)
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        unknown_key(found, known)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(&[field], "is missing")
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(&[field], "is there twice")
    }
}

/// Keys of earlier versions with their new names.
const RENAMED: [(&str, &str); 3] =
    [("final_fraction", "min_lr_ratio"), ("bit_price", "lambda"), ("merge", "removal (\"drop\" or \"merge\")")];

/// An unknown key.
pub(super) fn unknown_key(found: &str, known: &[&str]) -> ValueError {
    let renamed = RENAMED.iter().find(|(old, new)| *old == found && known.iter().any(|key| new.starts_with(key)));
    if let Some((_, new)) = renamed {
        return ValueError::new(&[found], format!("is now called {new}"));
    }
    let near = nearest(found, known.iter().copied()).map(str::to_owned);
    let message = match near {
        Some(_) => "is not a known key".to_owned(),
        None => format!("is not a known key: there are {}", known.join(", ")),
    };
    ValueError { near, ..ValueError::new(&[found], message) }
}

/// A text that is not one of the known names.
pub(super) fn unknown_name(found: &str, known: &[&str]) -> ValueError {
    let near = nearest(found, known.iter().copied()).map(str::to_owned);
    let message = format!("must be one of {}, but is the text {found:?}", known.join(", "));
    ValueError { near, ..ValueError::new(&[], message) }
}

/// The type that serde expects, without Rust terms.
fn kind(expected: &str) -> &str {
    match expected {
        "usize" | "u8" | "u16" | "u32" | "u64" | "isize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list",
        table if table.starts_with("struct ") => "a table of values",
        other => other,
    }
}

/// The range of a number type.
fn range(expected: &str) -> &str {
    match expected {
        "u8" => "from 0 to 255",
        "u16" => "from 0 to 65,535",
        "u32" => "from 0 to 4,294,967,295",
        "usize" | "u64" => "at least 0",
        other => kind(other),
    }
}

fn shown(found: Unexpected) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        // Debug format keeps the decimal point: 3.0 is not an integer in TOML.
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::UnitVariant => "a name without a value".to_owned(),
        other => other.to_string(),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::String(text) => Unexpected::Str(text),
        Value::Integer(value) => Unexpected::Signed(*value),
        Value::Float(value) => Unexpected::Float(*value),
        Value::Boolean(value) => Unexpected::Bool(*value),
        Value::Datetime(_) => Unexpected::Other("a date"),
        Value::Array(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

/// Reads plain data.
///
/// # Errors
/// The first value of a wrong type, or key that is unknown or missing.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    T::deserialize(Reader(value))
}

struct Reader(Value);

impl<'de> Deserializer<'de> for Reader {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Array(list) => visitor.visit_seq(Items(list.into_iter().enumerate())),
            Value::Table(table) => visitor.visit_map(Entries { rest: table.into_iter(), value: None }),
            Value::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    /// serde would also accept a list of the fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if self.0.is_table() { self.deserialize_any(visitor) } else { Err(wrong_kind(&self.0, "a table of values")) }
    }

    /// A name, or a table with the name as its only key.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::String(text) => {
                let name: StringDeserializer<ValueError> = text.into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries { rest: table.into_iter(), value: None }))
            }
            other => Err(wrong_kind(&other, &format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn wrong_kind(value: &Value, wanted: &str) -> ValueError {
    ValueError::new(&[], format!("must be {wanted}, but is {}", shown(unexpected(value))))
}

struct Items(std::iter::Enumerate<std::vec::IntoIter<Value>>);

impl<'de> SeqAccess<'de> for Items {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ValueError> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(value)).map(Some).map_err(|error| error.under(index.to_string()))
    }
}

struct Entries {
    rest: <Table as IntoIterator>::IntoIter,
    /// The value of the last key.
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        let key: StringDeserializer<ValueError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        let (key, value) = self.value.take().expect("a key is read before its value");
        seed.deserialize(Reader(value)).map_err(|error| error.under(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, PerHead, TrainConfig};
    use crate::numerics::Gradient;
    use resnet_bk_runtime::internal::architecture::Mixer;
    use serde::Deserialize;

    fn refused<T: DeserializeOwned + fmt::Debug>(text: &str) -> String {
        let table: Table = format!("x = {text}").parse().expect("TOML");
        read::<T>(table["x"].clone()).expect_err("a wrong value").to_string().trim_start().to_owned()
    }

    #[test]
    fn errors_describe_types_and_ranges_in_plain_words() {
        assert_eq!(refused::<usize>("\"abc\""), "must be a whole number, but is the text \"abc\"");
        assert_eq!(refused::<usize>("3.0"), "must be a whole number, but is 3.0");
        assert_eq!(refused::<usize>("-3"), "must be at least 0, but is -3");
        assert_eq!(refused::<u8>("300"), "must be from 0 to 255, but is 300");
        assert_eq!(refused::<u64>("true"), "must be a whole number, but is true");
        assert_eq!(refused::<f64>("\"1e-3\""), "must be a number, but is the text \"1e-3\"");
        assert_eq!(refused::<bool>("1"), "must be true or false, but is 1");
        assert_eq!(refused::<bool>("\"True\""), "must be true or false, but is the text \"True\"");
        assert_eq!(refused::<usize>("2020-01-01"), "must be a whole number, but is a date");
        assert_eq!(refused::<Option<u64>>("[]"), "must be a whole number, but is a list");
        assert_eq!(refused::<TrainConfig>("3"), "must be a table of values, but is 3");
        assert_eq!(refused::<TrainConfig>("[]"), "must be a table of values, but is a list");
        assert_eq!(refused::<Vec<u8>>("{a = 3}"), "must be a list, but is a table");
        let mixer = "must be one of diagonal, propagator, but is the text \"propagate\"";
        assert_eq!(refused::<Mixer>("\"propagate\""), mixer);
        assert_eq!(refused::<Mixer>("3"), "must be one of diagonal, propagator, but is 3");
        assert_eq!(
            refused::<PerHead>("\"one\""),
            "must be a number, or a list of a number for each head, but is the text \"one\""
        );
        assert_eq!(refused::<PerHead>("[1, \"two\"]"), "1 must be a number, but is the text \"two\"");
        assert_eq!(refused::<Gradient>("{blended = \"half\"}"), "blended must be a number, but is the text \"half\"");
    }

    #[test]
    fn errors_have_the_path_of_the_value() {
        assert_eq!(
            refused::<TrainConfig>("{schedule = {epochs = \"two\"}}"),
            "schedule.epochs must be a whole number, but is the text \"two\""
        );
        assert_eq!(refused::<TrainConfig>("{schedule = {epocs = 2}}"), "schedule.epocs is not a known key");
        assert_eq!(refused::<TrainConfig>("{zzz = 2}"), "zzz is not a known key: there are schedule, model");
        assert_eq!(refused::<ModelConfig>("{}"), "vocab_size is missing");
    }

    #[test]
    fn valid_values_are_read() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct All {
            whole: u64,
            float: f64,
            from_whole: f32,
            list: Vec<PerHead>,
            gradients: Vec<Gradient>,
            absent: Option<bool>,
        }
        let table: Table = "whole = 3\nfloat = 1e-3\nfrom_whole = 2\nlist = [1, 0.5, [1, 2.0]]\n\
                            gradients = [\"exact\", {blended = 1}]"
            .parse()
            .expect("TOML");
        let expected = All {
            whole: 3,
            float: 1e-3,
            from_whole: 2.0,
            list: vec![PerHead::All(1.0), PerHead::All(0.5), PerHead::Each(vec![1.0, 2.0])],
            gradients: vec![Gradient::Exact, Gradient::Blended(1.0)],
            absent: None,
        };
        assert_eq!(read::<All>(Value::Table(table)), Ok(expected));
    }
}
