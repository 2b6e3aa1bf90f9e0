//! Enums of which every variant is counted, told or taken in turn.

/// Makes an enum, and of the same lines how many variants it has, all of them, the index
/// of each and its name: a variant that is added cannot be missing from any of these.
///
/// An array of `COUNT` that is indexed by `index()` has a place for each variant.
macro_rules! closed_list {
    (
        $(#[$meta:meta])*
        pub enum $list:ident {
            $($(#[$about:meta])* $variant:ident => $name:expr,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list {
            $($(#[$about])* $variant,)+
        }

        impl $list {
            /// All of them, each at its own index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];

            /// How many there are.
            pub const COUNT: usize = [$(Self::$variant),+].len();

            /// Its place in [`ALL`](Self::ALL).
            #[allow(dead_code, reason = "not of every list something is counted")]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Its name, the same wherever it is told.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

pub(crate) use closed_list;

#[cfg(test)]
mod tests {
    closed_list! {
        /// What traffic does.
        pub enum Light {
            /// It goes.
            Green => "go",
            /// It stops.
            Red => "stop",
        }
    }

    #[test]
    fn each_variant_stands_in_the_list_at_its_own_index() {
        assert_eq!(Light::ALL, [Light::Green, Light::Red]);
        assert_eq!(Light::ALL.map(Light::index), [0, 1]);
        assert_eq!(Light::ALL.map(Light::as_str), ["go", "stop"]);
        assert_eq!(Light::COUNT, 2);
    }
}
