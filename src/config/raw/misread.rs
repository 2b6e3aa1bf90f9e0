//! Why a text could not be read as YAML: the one place that knows the library's words.

/// What the library means. It has no codes, so that is told from what it says.
#[derive(Debug, PartialEq, Eq)]
pub enum Misread<'a> {
    /// This key stands twice in a map.
    Twice(Option<&'a str>),
    /// A number that none of its types holds.
    TooLarge,
    /// A second document begins.
    SecondDocument,
    /// Nested too deeply.
    TooDeep,
    /// Too many aliases.
    TooManyAliases,
    /// A character that no text has, so many bytes from the beginning.
    Control(usize),
    /// Words that quote nothing of the text, and what mostly brings them about.
    Said(&'a str, Slip),
    /// Words that quote from the text, in which a secret may stand.
    Quoted,
}

/// A slip of whoever wrote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// A tab, or a text that begins with what begins something else.
    BadStart,
    /// A key without its colon, or without a space behind it.
    Colon,
    /// Quotes or brackets that are not closed.
    LeftOpen,
    /// Lines that belong together and are not indented alike.
    Indentation,
    /// Any other.
    Other,
}

impl<'a> Misread<'a> {
    /// Of what the library says.
    pub fn of(text: &'a str) -> Self {
        let says = |words: &str| text.contains(words);
        if says("duplicate entry") {
            Self::Twice(text.split('"').nth(1))
        } else if says("duplicate field `") {
            Self::Twice(text.split('`').nth(1))
        } else if says("128, expected") {
            Self::TooLarge
        } else if says("more than one document") {
            Self::SecondDocument
        } else if says("recursion limit") {
            Self::TooDeep
        } else if says("repetition limit") {
            Self::TooManyAliases
        } else if let Some(at) = control(text) {
            Self::Control(at)
        } else {
            let words = text.split(" at line ").next().unwrap_or_default();
            match words.contains(['"', '`']) {
                true => Self::Quoted,
                false => Self::Said(words, Slip::of(words)),
            }
        }
    }
}

/// Where the library met a control character: in words alone.
fn control(text: &str) -> Option<usize> {
    let (_, at) = text.split_once("control characters are not allowed at position ")?;
    let digits = at.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Slip {
    fn of(words: &str) -> Self {
        match words {
            "found character that cannot start any token" => Self::BadStart,
            "mapping values are not allowed in this context" | "could not find expected ':'" => {
                Self::Colon
            }
            // Where the next quote closes it, the rest of that line is what is not expected.
            "did not find expected key"
            | "did not find expected ',' or '}'"
            | "did not find expected ',' or ']'"
            | "found unexpected end of stream" => Self::LeftOpen,
            "did not find expected '-' indicator" => Self::Indentation,
            _ => Self::Other,
        }
    }

    /// How it is mended, if that is known.
    pub fn hint(self) -> &'static str {
        match self {
            Self::BadStart => {
                " (lines are indented with spaces, never with tabs; a text that begins with @, ` or % is put into quotes)"
            }
            Self::Colon => " (a key needs a space behind its colon; see the line before, too)",
            Self::LeftOpen => " (is a quote left open above, or a bracket?)",
            Self::Indentation => " (what belongs together is indented alike)",
            Self::Other => "",
        }
    }
}
