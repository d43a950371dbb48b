//! Is there a verdict for every field of the specification, and does each hold what it says?

use std::collections::BTreeSet;

use serde::de::value::Error;
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::json;

use super::*;

/// Finds the fields of a type from what it asks a deserializer for, so that none can be forgotten: one that a later version
/// of the type has is found as well.
struct Fields<'a> {
    field: String,
    found: &'a mut BTreeSet<String>,
}

impl Fields<'_> {
    fn below(&mut self, name: &str) -> Fields<'_> {
        let field = if self.field.is_empty() { name.to_owned() } else { format!("{}{name}", self.field) };
        Fields { field, found: self.found }
    }

    fn leaf(&mut self) {
        self.found.insert(self.field.trim_start_matches('.').to_owned());
    }
}

fn fields_of<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    T::deserialize(Fields { field: String::new(), found: &mut found }).expect("a type of plain parts");
    found
}

macro_rules! leaves {
    ($($method:ident: $visit:ident($($value:expr)?),)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            self.leaf();
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Fields<'_> {
    type Error = Error;

    leaves! {
        deserialize_any: visit_unit(), deserialize_bool: visit_bool(true), deserialize_i8: visit_i8(1),
        deserialize_i16: visit_i16(1), deserialize_i32: visit_i32(1), deserialize_i64: visit_i64(1),
        deserialize_u8: visit_u8(1), deserialize_u16: visit_u16(1), deserialize_u32: visit_u32(1),
        deserialize_u64: visit_u64(1), deserialize_f32: visit_f32(1.0), deserialize_f64: visit_f64(1.0),
        deserialize_char: visit_char('1'), deserialize_bytes: visit_bytes(b"1"),
        deserialize_byte_buf: visit_bytes(b"1"), deserialize_unit: visit_unit(),
        deserialize_identifier: visit_str("1"), deserialize_ignored_any: visit_unit(),
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.leaf();
        // Some types look at the text: a capability, a list of processors.
        visitor.visit_str(if self.field.contains("capabilities") { "CAP_KILL" } else { "1" })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.leaf();
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One { fields: self, names: &["[]"], at: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(One { fields: self, names: &["*"], at: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(One { fields: self, names, at: 0 })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.leaf();
        let first = variants.first().copied().unwrap_or_default();
        visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(first))
    }
}

/// Each of these names once.
struct One<'a> {
    fields: Fields<'a>,
    names: &'static [&'static str],
    at: usize,
}

impl<'de> de::MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.get(self.at) else { return Ok(None) };
        seed.deserialize(IntoDeserializer::<Error>::into_deserializer(*name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let name = format!(".{}", self.names[self.at]);
        self.at += 1;
        seed.deserialize(self.fields.below(&name))
    }
}

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.at == 1 {
            return Ok(None);
        }
        self.at = 1;
        seed.deserialize(self.fields.below("[]")).map(Some)
    }
}

/// The verdict for a field: its own, or that of what it stands in.
fn verdict(part: Part, field: &str) -> Option<Verdict> {
    let ends = field.match_indices(['.', '[']).map(|(end, _)| end).chain([field.len()]);
    let mut ends: Vec<_> = ends.collect();
    ends.sort_unstable();
    ends.iter().rev().find_map(|end| {
        part.verdict(&field[..*end]).or_else(|| part.verdict(&format!("{}[]", &field[..*end])))
    })
}

#[test]
fn every_field_of_the_specification_has_a_verdict() {
    let fields = fields_of::<oci_spec::runtime::Spec>();
    assert!(fields.contains("linux.resources.memory.kernelTCP") && fields.contains("vm.image.format"));
    assert!(fields.len() > 150, "{} fields: {fields:?}", fields.len());
    let without: Vec<_> = fields.iter().filter(|field| verdict(Part::Config, field).is_none()).collect();
    assert!(without.is_empty(), "neither done, noted nor refused: {without:?}");
}

#[test]
fn no_verdict_is_for_a_field_that_does_not_exist() {
    let fields = fields_of::<oci_spec::runtime::Spec>();
    let exists = |name: &str| {
        fields.iter().any(|field| {
            field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    for (start, table) in Part::Config.tables() {
        for (name, _) in *table {
            let full = if start.is_empty() { (*name).to_owned() } else { format!("{start}.{name}") };
            assert!(exists(&full), "{full}");
        }
    }
}

/// What the tables say is done must at least be read, and what is read must be said to be done.
#[test]
fn what_is_done_is_what_is_read() {
    let read = fields_of::<crate::spec::Spec>();
    for field in fields_of::<oci_spec::runtime::Spec>() {
        let is_done = verdict(Part::Config, &field) == Some(Done);
        assert_eq!(is_done, read.contains(&field), "{field}");
    }
}

fn review_of(value: Value) -> Result<Vec<Note>, String> {
    review(Part::Config, &value)
}

/// A value that asks for something, in its place in a configuration.
fn asking(field: &str) -> Value {
    field.split('.').rev().fold(json!("5"), |value, name| {
        let lists = name.matches("[]").count();
        let value = (0..lists).fold(value, |value, _| json!([value]));
        json!({ name.trim_end_matches("[]"): value })
    })
}

#[test]
fn each_field_is_refused_noted_or_passed_as_the_tables_say() {
    for field in fields_of::<oci_spec::runtime::Spec>() {
        let answer = review_of(asking(&field));
        match verdict(Part::Config, &field).expect("every field has one") {
            Done | Holds(_) => assert_eq!(answer, Ok(vec![]), "{field}"),
            Noted(why) => {
                let notes = answer.expect(&field);
                assert!(
                    notes.len() == 1 && notes[0].why == why && field.starts_with(&notes[0].field),
                    "{notes:?}"
                );
            }
            Refused(why) => {
                let line = answer.expect_err(&field);
                assert!(line.ends_with(why) && !line.contains('\n'), "{line}");
            }
        }
    }
}

#[test]
fn what_asks_for_nothing_is_passed_and_what_nobody_knows_is_noted() {
    let empty = json!({"linux": {"seccomp": null, "intelRdt": {}, "resources": {"blockIO": {"weight": 0, "weightDevice": []}}}, "vm": {"kernel": {"path": ""}}});
    assert_eq!(review_of(empty), Ok(vec![]));
    let new =
        json!({"linux": {"novelty": {"a": 1}, "resources": {"memory": {"novel": true}}}, "other": "x\ny"});
    let notes = review_of(new).expect("noted");
    let fields: Vec<_> = notes.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(fields, ["linux.novelty", "linux.resources.memory.novel", "other"]);
    assert_eq!(notes[2].to_string(), "other = x?y: this field is not known");
    let long = review_of(json!({"process": {"apparmorProfile": "x".repeat(5000)}})).expect("noted");
    assert!(long[0].value.len() < 200);
}

#[test]
fn what_version_two_has_no_file_for_is_noted() {
    let resources = |memory: Value| serde_json::from_value(json!({"memory": memory})).expect("parses");
    let both = missing_on_v2(&resources(json!({"swappiness": 5, "disableOOMKiller": true, "limit": 7})));
    assert_eq!(both.iter().map(|note| note.value.as_str()).collect::<Vec<_>>(), ["5", "true"]);
    assert!(missing_on_v2(&resources(json!({"limit": 7, "disableOOMKiller": false}))).is_empty());
}

#[test]
fn an_exec_and_an_update_are_looked_at_as_well() {
    let exec = json!({"args": ["x"], "apparmorProfile": "p"});
    assert_eq!(review(Part::Process, &exec).expect("noted")[0].field, "apparmorProfile");
    assert!(review(Part::Process, &json!({"scheduler": {"policy": "SCHED_FIFO"}})).is_err());
    assert!(review(Part::Resources, &json!({"blockIO": {"weight": 10}})).is_err());
    assert_eq!(
        review(Part::Resources, &json!({"memory": {"limit": 5}, "unified": {"memory.high": "1"}})),
        Ok(vec![])
    );
}
