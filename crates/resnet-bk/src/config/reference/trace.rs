//! What serde asks for when it reads a type: kinds of values, and the keys of tables.
//!
//! A value of the type is never made. The deserializer walks down one path, notes what is asked for
//! at its end, and fails.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use std::cell::RefCell;
use std::fmt::{self, Display};

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Flag,
    Whole,
    Number,
    Text,
    List,
    Table {
        name: &'static str,
        keys: &'static [&'static str],
    },
    OneOf {
        name: &'static str,
        names: &'static [&'static str],
    },
    /// A name without a value.
    Alone,
    /// In the reader's words.
    Described(String),
}

/// The kind of value that `T` has at a path: keys of tables, `[]` for the entries of a list, names
/// of an enumeration.
pub(super) fn kind_at<T: DeserializeOwned>(path: &[&str]) -> Kind {
    let found = RefCell::new(None);
    let _ = T::deserialize(Tracer { path, found: &found, stops_at_options: false });
    found.into_inner().unwrap_or_else(|| panic!("{path:?} is not read as a key"))
}

/// Whether the value at a path may be absent, and is then not set.
pub(super) fn is_optional<T: DeserializeOwned>(path: &[&str]) -> bool {
    let found = RefCell::new(None);
    let _ = T::deserialize(Tracer { path, found: &found, stops_at_options: true });
    found.into_inner() == Some(Kind::Alone)
}

#[derive(Clone, Copy)]
struct Tracer<'a> {
    path: &'a [&'a str],
    found: &'a RefCell<Option<Kind>>,
    stops_at_options: bool,
}

impl<'a> Tracer<'a> {
    fn stop<T>(self, kind: Kind) -> Result<T, Stop> {
        // A path that goes on where a value ends is found nowhere.
        if self.path.is_empty() {
            *self.found.borrow_mut() = Some(kind);
        }
        Err(Stop)
    }

    fn step(self) -> (&'a str, Self) {
        (self.path[0], Self { path: &self.path[1..], ..self })
    }
}

/// The end of every path.
#[derive(Debug)]
struct Stop;

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("traced")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! stops {
    ($($method:ident => $kind:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.stop($kind)
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    stops! {
        deserialize_bool => Kind::Flag,
        deserialize_i8 => Kind::Whole,
        deserialize_i16 => Kind::Whole,
        deserialize_i32 => Kind::Whole,
        deserialize_i64 => Kind::Whole,
        deserialize_u8 => Kind::Whole,
        deserialize_u16 => Kind::Whole,
        deserialize_u32 => Kind::Whole,
        deserialize_u64 => Kind::Whole,
        deserialize_f32 => Kind::Number,
        deserialize_f64 => Kind::Number,
        deserialize_char => Kind::Text,
        deserialize_str => Kind::Text,
        deserialize_string => Kind::Text,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.stop(Kind::Described((&visitor as &dyn Expected).to_string()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        if self.path.is_empty() && self.stops_at_options { self.stop(Kind::Alone) } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        if self.path.is_empty() { self.stop(Kind::List) } else { visitor.visit_seq(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if self.path.is_empty() { self.stop(Kind::Table { name, keys }) } else { visitor.visit_map(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if self.path.is_empty() { self.stop(Kind::OneOf { name, names }) } else { visitor.visit_enum(self) }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        seed.deserialize(self.step().1).map(Some)
    }
}

impl<'de> MapAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let key: StrDeserializer<'_, Stop> = self.step().0.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.step().1)
    }
}

impl<'de> EnumAccess<'de> for Tracer<'_> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let (name, rest) = self.step();
        let name: StrDeserializer<'_, Stop> = name.into_deserializer();
        seed.deserialize(name).map(|name| (name, rest))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.stop(Kind::Alone)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }
}
