//! Makes serde read and write a type through its text, so that parsing is the only way in.

/// Implements `TryFrom<String>` and `From<$type> for String` through `FromStr` and `Display`, which is
/// what `#[serde(try_from = "String", into = "String")]` asks for.
macro_rules! by_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = <$type as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

pub(crate) use by_text;
