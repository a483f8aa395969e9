//! One value or several, and ranges of numbers.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value, or a list of values: in TOML, `law = "uniform"` or `law = ["uniform", "gaussian"]`, and `[problem]` or
/// `[[problem]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> From<T> for OneOrMany<T> {
    fn from(one: T) -> Self {
        Self(vec![one])
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

/// Written by hand for better messages: serde's untagged enums cannot say what is wrong with a value.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of values")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(value)).map(OneOrMany::from)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                let many = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                if many.is_empty() {
                    Err(A::Error::custom("expected at least one, found none"))
                } else {
                    Ok(OneOrMany(many))
                }
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A number, or a range from smallest to largest: in TOML, `rows = 5` or `rows = [5, 10]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OneOrTwo", into = "OneOrTwo")]
pub struct Span {
    /// The smallest.
    pub min: usize,
    /// The largest.
    pub max: usize,
}

impl Span {
    /// All numbers in the range.
    #[must_use]
    pub fn range(self) -> RangeInclusive<usize> {
        self.min..=self.max
    }
}

impl From<RangeInclusive<usize>> for Span {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self { min: *range.start(), max: *range.end() }
    }
}

impl From<usize> for Span {
    fn from(only: usize) -> Self {
        Self { min: only, max: only }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or [smallest, largest]")]
enum OneOrTwo {
    One(usize),
    Two([usize; 2]),
}

impl From<Span> for OneOrTwo {
    fn from(Span { min, max }: Span) -> Self {
        if min == max { Self::One(min) } else { Self::Two([min, max]) }
    }
}

impl TryFrom<OneOrTwo> for Span {
    type Error = String;

    fn try_from(span: OneOrTwo) -> Result<Self, Self::Error> {
        match span {
            OneOrTwo::One(only) => Ok(only.into()),
            OneOrTwo::Two([min, max]) if min <= max => Ok(Self { min, max }),
            OneOrTwo::Two([min, max]) => Err(format!("expected [smallest, largest], found [{min}, {max}]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        law: OneOrMany<String>,
        rows: Span,
    }

    #[test]
    fn one_and_many_are_read_and_written_alike() {
        for toml in ["law = \"a\"\nrows = 3\n", "law = [\"a\", \"b\"]\nrows = [3, 5]\n"] {
            let table: Table = toml::from_str(toml).expect("a table");
            assert_eq!(toml::to_string(&table).expect("plain data"), toml);
        }
    }

    #[test]
    fn what_is_neither_one_nor_many_is_named() {
        let error = |toml| toml::from_str::<Table>(toml).expect_err("a mistake").message().to_owned();
        assert_eq!(error("law = []\nrows = 3"), "expected at least one, found none");
        assert_eq!(error("law = 1\nrows = 3"), "invalid type: integer `1`, expected one value or a list of values");
        assert_eq!(error("law = \"a\"\nrows = [5, 3]"), "expected [smallest, largest], found [5, 3]");
        assert_eq!(error("law = \"a\"\nrows = \"x\""), "expected a number or [smallest, largest]");
    }
}
