//! `tor::json`.
use super::Command;
use serde_json::{Map, Number, Value};
use torhost_tcl::{Error, Interp, Obj, Result};

/// How deep shapes may go, which is as deep as `serde_json` reads.
const DEPTH: usize = 128;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::json decode",
        usage: "text",
        help: "Returns the Tcl value of a JSON text. Objects become dicts, arrays lists; numbers keep every digit, \
               whatever their size; `true`, `false` and `null` become these words.\n\n\
               A text that is no JSON is an error that names the line and column, with `-errorcode {TOR JSON SYNTAX}`.",
        example: "set worker [tor::json decode {{\"id\": \"worker1\", \"slots\": 2, \"capabilities\": [\"cpu\"]}}]\n\
                  dict get $worker slots   ;# → 2",
        arguments: (1, Some(1)),
        run: |_, args| decode(&args[0]),
    },
    Command {
        name: "tor::json encode",
        usage: "?-as shape? value",
        help: "Returns the JSON text of a Tcl value, in one line. As Tcl values have no types, `shape` says what is wanted:\n\n\
               | shape | gives |\n|---|---|\n\
               | `auto` (the default) | a number if it is one in JSON's own notation; `true`, `false`, `null`; else a string |\n\
               | `string` | a string |\n\
               | `number` | a number, or an error |\n\
               | `boolean` | `true` or `false` from any Tcl boolean |\n\
               | `json` | the value is JSON text already, and is checked |\n\
               | `list ?shape?` | an array, of elements of that shape |\n\
               | `dict ?key shape …?` | an object; the key `*` gives the shape of all keys that are not named, else `auto` |\n\n\
               A value that does not fit is an error with `-errorcode {TOR JSON VALUE}`; a shape that is none, or is more than \
               128 levels deep, one with `-errorcode {TOR JSON SHAPE}`.",
        example: "tor::json encode -as {dict id string slots number capabilities list} {id 7 slots 2 capabilities {gpu fast}}\n\
                  # → {\"id\":\"7\",\"slots\":2,\"capabilities\":[\"gpu\",\"fast\"]}",
        arguments: (1, Some(3)),
        run: encode,
    },
];

fn decode(text: &Obj) -> Result<Obj> {
    let text = text.to_text()?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("not JSON: {error}")).with_code(["TOR", "JSON", "SYNTAX"]))?;
    Ok(to_tcl(&value))
}

/// A JSON value as the Tcl value that `tor::json decode` gives.
pub(crate) fn to_tcl(value: &Value) -> Obj {
    match value {
        Value::Null => Obj::from("null"),
        Value::Bool(true) => Obj::from("true"),
        Value::Bool(false) => Obj::from("false"),
        Value::Number(number) => Obj::from(number.to_string()),
        Value::String(text) => Obj::from(text),
        Value::Array(elements) => Obj::list(elements.iter().map(to_tcl)),
        Value::Object(entries) => Obj::dict(entries.iter().map(|(key, value)| (key, to_tcl(value)))),
    }
}

fn encode(_: &Interp, args: &[Obj]) -> Result<Obj> {
    let (shape, value) = match args {
        [value] => (Obj::from("auto"), value),
        [option, shape, value] if option.to_text_lossy() == "-as" => (shape.clone(), value),
        _ => return Err(Error::wrong_args("tor::json encode ?-as shape? value")),
    };
    Ok(Obj::from(from_tcl(&shape, value, DEPTH)?.to_string()))
}

fn from_tcl(shape: &Obj, value: &Obj, depth: usize) -> Result<Value> {
    let Some(deeper) = depth.checked_sub(1) else {
        let message = format!("the shape is more than {DEPTH} levels deep");
        return Err(Error::new(message).with_code(["TOR", "JSON", "SHAPE"]));
    };
    let words = shape.to_list().map_err(|_| bad(shape))?;
    let kind = words.first().map(Obj::to_text_lossy).unwrap_or_default();
    match (kind.as_str(), &words[words.len().min(1)..]) {
        ("auto", []) => {
            let text = value.to_text()?;
            Ok(match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => number(&text).map_or(Value::String(text), Value::Number),
            })
        }
        ("string", []) => Ok(Value::String(value.to_text()?)),
        ("number", []) => number(&value.to_text()?)
            .map(Value::Number)
            .ok_or_else(|| not("a JSON number", value)),
        ("boolean", []) => value
            .to_bool()
            .map(Value::Bool)
            .map_err(|_| not("a boolean", value)),
        ("json", []) => serde_json::from_str(&value.to_text()?)
            .map_err(|error| Error::new(format!("not JSON: {error}")).with_code(["TOR", "JSON", "VALUE"])),
        ("list", element) if element.len() <= 1 => {
            let element = element.first().cloned().unwrap_or_else(|| Obj::from("auto"));
            value
                .to_list()
                .map_err(|_| not("a list", value))?
                .iter()
                .map(|value| from_tcl(&element, value, deeper))
                .collect::<Result<_>>()
                .map(Value::Array)
        }
        ("dict", keys) if keys.len() % 2 == 0 => {
            let shape_of = |key: &Obj| {
                keys.chunks_exact(2)
                    .find(|pair| pair[0] == *key)
                    .map(|pair| pair[1].clone())
            };
            let other = shape_of(&Obj::from("*")).unwrap_or_else(|| Obj::from("auto"));
            let mut object = Map::new();
            for (key, value) in value.to_dict().map_err(|_| not("a dict", value))? {
                let shape = shape_of(&key).unwrap_or_else(|| other.clone());
                object.insert(key.to_text()?, from_tcl(&shape, &value, deeper)?);
            }
            Ok(Value::Object(object))
        }
        _ => Err(bad(shape)),
    }
}

fn bad(shape: &Obj) -> Error {
    let shapes = "auto, string, number, boolean, json, list ?shape?, or dict ?key shape …?";
    let message = format!("bad shape \"{}\": must be {shapes}", shape.to_text_lossy());
    Error::new(message).with_code(["TOR", "JSON", "SHAPE"])
}

/// A text that is a number in JSON's notation, which is narrower than Tcl's: no `0x10`, `1_000`, `.5` or `Inf`.
fn number(text: &str) -> Option<Number> {
    text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        .then(|| serde_json::from_str(text).ok())
        .flatten()
        .filter(|_| !text.ends_with(|c: char| c.is_ascii_whitespace()))
}

fn not(expected: &str, value: &Obj) -> Error {
    Error::expected(expected, &value.to_text_lossy()).with_code(["TOR", "JSON", "VALUE"])
}
