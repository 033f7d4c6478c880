//! What programs of a release say over gRPC means the same today: services, methods, fields and enum values of its
//! `api.binpb` are there unchanged, or their numbers are reserved.

use super::releases;
use optipod::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PACKAGE: &str = "optipod.v1alpha1";

pub fn of_release(dir: &Path) -> FileDescriptorSet {
    ours(&fs::read(dir.join("api.binpb")).unwrap())
}

pub fn of_today() -> FileDescriptorSet {
    ours(DESCRIPTORS)
}

pub fn write_today(dir: &Path) {
    fs::write(dir.join("api.binpb"), of_today().encode_to_vec()).unwrap();
}

/// Our own files, without comments.
fn ours(bytes: &[u8]) -> FileDescriptorSet {
    let mut set = FileDescriptorSet::decode(bytes).unwrap();
    set.file.retain(|file| file.package() == PACKAGE);
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

#[test]
fn what_a_release_says_over_grpc_means_the_same_today() {
    for dir in releases() {
        assert_eq!(broken(&of_release(&dir), &of_today()), Vec::<String>::new(), "since {}", dir.display());
    }
}

/// What a program built upon `old` would say or understand wrongly beside one built upon `new`.
fn broken(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Named::of(old), Named::of(new));
    let mut found = Vec::new();
    for (name, service) in &old.services {
        found.extend(new.services.get(name).map_or(vec![format!("{name} is gone")], |now| methods(service, now)));
    }
    for (name, message) in &old.messages {
        found.extend(new.messages.get(name).map_or(vec![format!("{name} is gone")], |now| fields(name, message, now)));
    }
    for (name, values) in &old.enums {
        found.extend(new.enums.get(name).map_or(vec![format!("{name} is gone")], |now| enum_values(name, values, now)));
    }
    found
}

/// The definitions of our package by their full names.
#[derive(Default)]
struct Named<'a> {
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Named<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut named = Self::default();
        for file in &set.file {
            named.services.extend(file.service.iter().map(|service| (service.name().to_owned(), service)));
            named.enums.extend(file.enum_type.iter().map(|one| (one.name().to_owned(), one)));
            file.message_type.iter().for_each(|message| named.add(message.name().to_owned(), message));
        }
        assert!(!named.services.is_empty() && !named.messages.is_empty() && !named.enums.is_empty());
        named
    }

    fn add(&mut self, name: String, message: &'a DescriptorProto) {
        self.enums.extend(message.enum_type.iter().map(|one| (format!("{name}.{}", one.name()), one)));
        message.nested_type.iter().for_each(|inner| self.add(format!("{name}.{}", inner.name()), inner));
        self.messages.insert(name, message);
    }
}

fn methods(old: &ServiceDescriptorProto, new: &ServiceDescriptorProto) -> Vec<String> {
    let is_there = |method| new.method.contains(method);
    let gone = old.method.iter().filter(|method| !is_there(method));
    gone.map(|method| format!("method {}.{} is gone or another", old.name(), method.name())).collect()
}

fn fields(message: &str, old: &DescriptorProto, new: &DescriptorProto) -> Vec<String> {
    let is_reserved =
        |number: i32| new.reserved_range.iter().any(|range| (range.start()..range.end()).contains(&number));
    let used = |number: i32| new.field.iter().find(|field| field.number() == number);
    let changed = old.field.iter().filter_map(|field| match used(field.number()) {
        Some(now) if meaning(field) == meaning(now) => None,
        Some(now) => Some(format!("{message}: {} = {} is now {}", field.name(), field.number(), now.name())),
        None if is_reserved(field.number()) => None,
        None => Some(format!("{message}: {} = {} is gone and not reserved", field.name(), field.number())),
    });
    let was_reserved = old.reserved_range.iter().flat_map(|range| range.start()..range.end());
    let taken = was_reserved.filter_map(|number| used(number).map(|now| (number, now)));
    changed.chain(taken.map(|(number, now)| format!("{message}: {number} was reserved, is {}", now.name()))).collect()
}

/// All of a field but where it stands among others.
fn meaning(field: &FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { oneof_index: field.oneof_index.map(|_| 0), ..field.clone() }
}

fn enum_values(name: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto) -> Vec<String> {
    // An enum's ranges include their end.
    let is_reserved =
        |number: i32| new.reserved_range.iter().any(|range| (range.start()..=range.end()).contains(&number));
    let is_kept = |number: i32, word: &str| match new.value.iter().find(|value| value.number() == number) {
        Some(now) => now.name() == word,
        None => is_reserved(number),
    };
    let gone = old.value.iter().filter(|value| !is_kept(value.number(), value.name()));
    gone.map(|value| format!("{name}: {} = {} is gone or another", value.name(), value.number())).collect()
}

fn file<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut FileDescriptorProto {
    set.file.iter_mut().find(|file| file.name().ends_with(name)).unwrap()
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    let all = &mut file(set, "usage.proto").message_type;
    all.iter_mut().find(|message| message.name() == name).unwrap()
}

#[test]
fn what_breaks_older_programs_is_found() {
    type Change = fn(&mut FileDescriptorSet);
    let breaks: [(&str, Change); 8] = [
        ("Series: container = 4 is gone and not reserved", |set| message(set, "Series").field[3].number = Some(5)),
        ("Distribution: p90 = 2 is now p91", |set| message(set, "Distribution").field[1].name = Some("p91".into())),
        ("Distribution: samples = 6 is now samples", |set| message(set, "Distribution").field[5].set_type(Type::Int64)),
        ("Usage: window = 1 is gone and not reserved", |set| drop(message(set, "Usage").field.remove(0))),
        ("GetUsageRequest is gone", |set| message(set, "GetUsageRequest").name = Some("Other".into())),
        ("UsageService is gone", |set| file(set, "usage.proto").service.clear()),
        ("method UsageService.BatchGetUsage is gone or another", |set| {
            file(set, "usage.proto").service[0].method[1].server_streaming = Some(false);
        }),
        ("Percentile: PERCENTILE_P99 = 3 is gone or another", |set| {
            file(set, "recommender.proto").enum_type[0].value[3].number = Some(4);
        }),
    ];
    for (told, change) in breaks {
        let mut new = of_today();
        change(&mut new);
        let found = broken(&of_today(), &new);
        assert!(found.contains(&told.to_owned()), "{told:?} is not in {found:?}");
    }
}

#[test]
fn a_field_may_come_and_may_go_where_its_number_is_reserved_for_ever() {
    use prost_types::descriptor_proto::ReservedRange;
    let mut without = of_today();
    message(&mut without, "Distribution").field.remove(8);
    let reserved = ReservedRange { start: Some(9), end: Some(10) };
    message(&mut without, "Distribution").reserved_range.push(reserved);
    assert_eq!(broken(&of_today(), &without), Vec::<String>::new());
    assert_eq!(broken(&without, &of_today()), ["Distribution: 9 was reserved, is p98"]);
    message(&mut without, "Distribution").reserved_range.clear();
    assert_eq!(
        broken(&without, &of_today()),
        Vec::<String>::new(),
        "a new field is none of an older program's business"
    );
}
