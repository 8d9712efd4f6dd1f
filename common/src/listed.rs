//! One line for each of a kind: losses, optimizers, schedules.

/// An enum of words with fields below them, such as `adam: {beta1: 0.9}`, from a list of
/// `module: Variant(Fields)`: its name in the spec is the module's. What each answers is a trait's,
/// which `fields` hands out. A macro, as no function makes an enum: the list is all that is to be written.
macro_rules! listed {
    (
        $(#[$about:meta])*
        $list:ident: dyn $kind:ident {
            $($(#[$line:meta])* $module:ident: $variant:ident($fields:ident),)+
        }
    ) => {
        $(pub use $module::$fields;)+

        $(#[$about])*
        #[derive(
            Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum $list {
            $($(#[$line])* $variant($fields),)+
        }

        impl $list {
            /// All words of the list.
            pub const NAMES: &[&str] = &[$(stringify!($module)),+];

            /// The word in the spec.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($module),)+
                }
            }

            fn fields(&self) -> &dyn $kind {
                match self {
                    $(Self::$variant(fields) => fields,)+
                }
            }
        }
    };
}

pub(crate) use listed;
