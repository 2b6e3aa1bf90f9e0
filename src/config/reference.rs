//! The reference of the config, as Markdown: made from the schema, so that it
//! can't tell of another config than the program reads.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

const INTRODUCTION: &str = "\
# Configuration

One YAML file: `--config FILE`, else `ALLOY_GATEWAY_CONFIG`, else `/etc/alloy-gateway/config.yaml`.
This page is made from the schema (`alloy-gateway config reference`); an example of every key is
[config/full.yaml](../config/full.yaml), and editors complete it with [config/schema.json](../config/schema.json).

- A duration is a number with a unit: `250ms`, `5s`, `10m`, `1h`, `1d`. A size is `16KiB`, `1MiB`, or a number of bytes.
- Relative paths are relative to the config file. Unknown keys are errors.
- Nothing is replaced in the text: there is no `${VAR}`, and no `~`; a path with one is refused. Secrets come from a file, a variable or a systemd credential.
- A pipe in the place of a file, `<(…)` of a shell, is read at a start alone: a reload takes regular files, and says what is none.
- `alloy-gateway check` names every problem at once; `alloy-gateway config show` prints what is in effect, without secrets.
- Another config is loaded without a restart, except `listen` (certificates are), `admin.address`, `admin.socket`,
  `workers`, `audit`, `limits_store` (but `replicas`), `otlp`, `log.format`, `bounds.connections`, `bounds.connections_per_peer` and
  `bounds.requests_in_flight`: a reload that changes one of these says so, also if only a file changed that the start read for one of them.
";

/// The whole page.
pub fn reference(schema: &Value) -> String {
    let mut page = Page {
        schema,
        text: INTRODUCTION.to_owned(),
        sections: vec![("The file".to_owned(), schema.clone())],
        known: Vec::new(),
    };
    let mut next = 0;
    // Sections add those that they point to.
    while let Some((title, shape)) = page.sections.get(next).cloned() {
        page.section(&title, &shape);
        next += 1;
    }
    page.text
}

struct Page<'a> {
    schema: &'a Value,
    text: String,
    sections: Vec<(String, Value)>,
    /// Names of shapes that have a section, and its title.
    known: Vec<(String, String)>,
}

impl Page<'_> {
    fn section(&mut self, title: &str, shape: &Value) {
        let description = text_of(shape, "description");
        // Writing to a string can't fail.
        let _ = write!(self.text, "\n## {title}\n\n{description}\n\n");
        self.text += "| key | value | default | |\n|---|---|---|---|\n";
        let required = shape["required"].as_array().cloned().unwrap_or_default();
        let nothing = Map::new();
        let keys = shape["properties"].as_object().unwrap_or(&nothing);
        for (name, field) in keys {
            let path = match title {
                "The file" => name.clone(),
                title => format!("{title}.{name}"),
            };
            let value = self.value(field, &path);
            let default = match &field["default"] {
                Value::Null if required.iter().any(|it| it == name) => "required".to_owned(),
                Value::Null => String::new(),
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            let description = text_of(field, "description");
            let _ = writeln!(
                self.text,
                "| `{name}` | {value} | {default} | {} |",
                description.replace('|', "\\|")
            );
        }
    }

    /// What may stand there, with links to the sections of maps.
    fn value(&mut self, field: &Value, path: &str) -> String {
        if let Some(name) = field["$ref"].as_str() {
            return self.link(name, path);
        }
        if let Some(choices) = field["anyOf"].as_array() {
            // A number of bytes is a size, too.
            let size = choices
                .iter()
                .find(|it| text_of(it, "pattern").contains("KiB"));
            if let Some(size) = size {
                return self.value(size, path);
            }
            let choices = choices.iter().filter(|it| it["type"] != "null");
            let choices: Vec<_> = choices.map(|it| self.value(it, path)).collect();
            return choices.join(" or ");
        }
        let quoted = |it: &Value| format!("`{}`", it.to_string().trim_matches('"'));
        if !field["const"].is_null() {
            return quoted(&field["const"]);
        }
        if let Some(words) = field["enum"].as_array() {
            return words.iter().map(quoted).collect::<Vec<_>>().join(" or ");
        }
        let kind = match &field["type"] {
            Value::Array(kinds) => kinds.first().and_then(Value::as_str),
            kind => kind.as_str(),
        };
        match kind {
            Some("array") => {
                let entry = self.value(&field["items"], path);
                match entry.strip_prefix("map as ") {
                    Some(known) => format!("list of maps as {known}"),
                    None => format!("list of {entry}"),
                }
            }
            Some("object") => {
                let entry = self.value(&field["additionalProperties"], &format!("{path}.NAME"));
                format!("map of names to {entry}")
            }
            Some("integer" | "number") => bounds(field),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("string") => match text_of(field, "pattern") {
                pattern if pattern.contains("forever") => "duration or `forever`".to_owned(),
                pattern if pattern.contains("ms|s") => "duration".to_owned(),
                pattern if pattern.contains("KiB") => "size".to_owned(),
                _ if field["format"] == "date-time" => "time".to_owned(),
                _ => "text".to_owned(),
            },
            _ => String::new(),
        }
    }

    fn link(&mut self, reference: &str, path: &str) -> String {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let shape = self.schema["$defs"].get(name).unwrap_or(&Value::Null);
        let Some(keys) = shape["properties"].as_object() else {
            return self.value(&shape.clone(), path);
        };
        // What has a single key needs no section: `{ file: … }`.
        let only = shape["required"].get(0).and_then(Value::as_str);
        if let (1, Some(only)) = (keys.len(), only) {
            return format!("`{{ {only}: … }}`");
        }
        if !self.known.iter().any(|(known, _)| known == name) {
            self.known.push((name.to_owned(), path.to_owned()));
            self.sections.push((path.to_owned(), shape.clone()));
        }
        let known = self.known.iter().find(|(known, _)| known == name);
        let title = known.map_or(path, |(_, title)| title);
        let anchor: String = title
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c))
            .collect();
        let link = format!("[{title}](#{})", anchor.to_ascii_lowercase());
        if title == path {
            return link;
        }
        // The section stands under another key that has the same.
        format!("map as {link}")
    }
}

fn text_of<'a>(shape: &'a Value, name: &str) -> &'a str {
    shape[name].as_str().unwrap_or_default()
}

fn bounds(field: &Value) -> String {
    match (&field["minimum"], &field["maximum"]) {
        (Value::Number(min), Value::Number(max)) => {
            format!("number, {} to {}", grouped(min), grouped(max))
        }
        _ => "number".to_owned(),
    }
}

/// A number as people read it: 10,000.
fn grouped(number: &Number) -> String {
    let digits = number.to_string();
    if number.is_f64() {
        return digits;
    }
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
