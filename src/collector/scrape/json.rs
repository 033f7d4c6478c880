//! `PodMetricsList` as JSON, item by item: texts are borrowed from the bytes, and an item is gone once it was told.

use super::{ContainerPoint, KIND, PodPoints, ScrapeError};
use crate::quantity;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// Calls `each` with every pod of the list, whose parts are borrowed from `body`; how many there are.
///
/// What an item lacks is empty or `None` and spoils nothing else; bytes that are no list are an error, before which
/// `each` may have been called.
pub fn decode_json<'a>(body: &'a [u8], each: impl FnMut(&PodPoints<'a>)) -> Result<usize, ScrapeError> {
    let malformed = |error: serde_json::Error| ScrapeError::Malformed(error.to_string());
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut items = Items { each, pods: 0 };
    let kind = json.deserialize_map(List(&mut items)).map_err(malformed)?;
    json.end().map_err(malformed)?;
    if kind != KIND {
        return Err(ScrapeError::other_kind(&kind));
    }
    Ok(items.pods)
}

/// Reads the list and answers its kind.
struct List<'f, F>(&'f mut Items<F>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Part {
    Kind,
    Items,
    #[serde(other)]
    Other,
}

impl<'de, F: FnMut(&PodPoints<'de>)> Visitor<'de> for List<'_, F> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pod metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind = Text::default();
        while let Some(part) = map.next_key()? {
            match part {
                Part::Kind => kind = map.next_value()?,
                Part::Items => map.next_value_seed(&mut *self.0)?,
                Part::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(kind.0)
    }
}

/// Reads the items, or the `null` that Go writes for none.
struct Items<F> {
    each: F,
    pods: usize,
}

impl<'de, F: FnMut(&PodPoints<'de>)> DeserializeSeed<'de> for &mut Items<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, items: D) -> Result<(), D::Error> {
        items.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&PodPoints<'de>)> Visitor<'de> for &mut Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pod metrics")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Item<'de>>()? {
            (self.each)(&item.into());
            self.pods += 1;
        }
        Ok(())
    }
}

/// The few fields of `PodMetrics` that we use.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    timestamp: Text<'a>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    containers: Vec<ContainerPoint<'a>>,
}

#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    usage: Amounts<'a>,
}

#[derive(Deserialize, Default)]
struct Amounts<'a> {
    #[serde(borrow, default)]
    cpu: Cow<'a, str>,
    #[serde(borrow, default)]
    memory: Cow<'a, str>,
}

/// A text that is borrowed also where serde would not: at the top, and within an `Option`.
#[derive(Deserialize, Default)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Go writes an empty list or map, and its zero time, as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl<'a> From<Item<'a>> for PodPoints<'a> {
    fn from(item: Item<'a>) -> Self {
        Self {
            namespace: item.metadata.namespace,
            pod: item.metadata.name,
            at: item.timestamp.0.parse().ok(),
            containers: item.containers,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ContainerPoint<'a> {
    fn deserialize<D: Deserializer<'de>>(container: D) -> Result<Self, D::Error> {
        let Container { name, usage } = Container::deserialize(container)?;
        let amount = |text: &str| quantity::parse_f64(text).ok();
        Ok(Self { name, cpu: amount(&usage.cpu), memory: amount(&usage.memory) })
    }
}
