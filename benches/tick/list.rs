//! metrics-server's list of many pods, written once; each tick only changes times and amounts where they stand.

use std::fmt::Write as _;

/// 2026-11-24T10:00:00Z, the first tick.
pub(super) const EPOCH: i64 = 1_795_514_400;

/// How a list is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

/// What stands in an item until the first tick, of the width of what follows.
const CPU: &str = "cccccccccn";
const MEMORY: &str = "mmmmmmKi";
const TIME: &str = "2026-11-24T10:00:00Z";

/// The list, and where in it each pod's time and amounts stand.
pub(super) struct List {
    pub(super) bytes: Vec<u8>,
    form: Form,
    spots: Vec<[usize; 3]>,
}

impl List {
    /// `pods` pods with one container each, of as many deployments.
    pub(super) fn new(form: Form, pods: usize) -> Self {
        let mut list = Self { bytes: Vec::new(), form, spots: Vec::new() };
        let item = match form {
            Form::Protobuf => protobuf_item,
            Form::Json => json_item,
        };
        let time = match form {
            Form::Protobuf => time_message(EPOCH),
            Form::Json => TIME.as_bytes().to_vec(),
        };
        for pod in 0..pods {
            if form == Form::Json && pod > 0 {
                list.bytes.push(b',');
            }
            let item = item(pod);
            let at = list.bytes.len();
            // The last time is the point's own; the one before is when the object was made.
            let spot = |needle: &[u8]| at + item.windows(needle.len()).rposition(|part| part == needle).unwrap();
            list.spots.push([spot(&time), spot(CPU.as_bytes()), spot(MEMORY.as_bytes())]);
            list.bytes.extend(item);
        }
        list.enclose();
        list.tick(0);
        list
    }

    /// Puts the envelope around the items.
    fn enclose(&mut self) {
        let items = std::mem::take(&mut self.bytes);
        let (head, tail) = match self.form {
            Form::Protobuf => (envelope(items.len()), ""),
            Form::Json => (JSON_HEAD.as_bytes().to_vec(), "]}"),
        };
        self.spots.iter_mut().flatten().for_each(|spot| *spot += head.len());
        self.bytes = [head, items, tail.into()].concat();
    }

    /// Every point of the list becomes that of this tick: each amount differs from the one before.
    pub(super) fn tick(&mut self, tick: u64) {
        let seconds = EPOCH + 15 * tick.cast_signed();
        let time = match self.form {
            Form::Protobuf => time_message(seconds),
            Form::Json => jiff::Timestamp::from_second(seconds).unwrap().to_string().into_bytes(),
        };
        for (pod, [at, cpu, memory]) in self.spots.iter().enumerate() {
            let (cores, kib) = amounts(pod, tick);
            self.bytes[*at..*at + time.len()].copy_from_slice(&time);
            digits(&mut self.bytes[*cpu..*cpu + 9], cores);
            digits(&mut self.bytes[*memory..*memory + 6], kib);
        }
    }
}

/// Nanocores of nine digits and KiB of six, scattered as usage is: no two neighbours alike.
pub(super) fn amounts(pod: usize, tick: u64) -> (u64, u64) {
    let mixed = (pod as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tick.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (100_000_000 + mixed % 900_000_000, 100_000 + (mixed >> 32) % 900_000)
}

fn digits(spot: &mut [u8], mut value: u64) {
    for place in spot.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap();
        value /= 10;
    }
}

/// The namespace of a pod; 300 pods share one.
pub(super) fn namespace(pod: usize) -> String {
    format!("team-{:04}", pod / 300)
}

pub(super) fn deployment(pod: usize) -> String {
    format!("web-{pod:06}")
}

pub(super) fn replica_set(pod: usize) -> String {
    format!("{}-5d8f7c9b4", deployment(pod))
}

pub(super) fn pod_name(pod: usize) -> String {
    format!("{}-x7k2p", replica_set(pod))
}

const JSON_HEAD: &str = r#"{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":["#;

fn json_item(pod: usize) -> Vec<u8> {
    let (name, namespace, app) = (pod_name(pod), namespace(pod), deployment(pod));
    let mut item = String::new();
    write!(
        item,
        r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","creationTimestamp":"2026-11-24T10:00:00Z","#
    )
    .unwrap();
    write!(item, r#""labels":{{"app":"{app}","pod-template-hash":"5d8f7c9b4","tier":"backend"}}}},"#).unwrap();
    write!(item, r#""timestamp":"{TIME}","window":"15.012s","containers":[{{"name":"app","#).unwrap();
    write!(item, r#""usage":{{"cpu":"{CPU}","memory":"{MEMORY}"}}}}]}}"#).unwrap();
    item.into_bytes()
}

/// Field numbers of `k8s.io/metrics` and apimachinery.
fn protobuf_item(pod: usize) -> Vec<u8> {
    let label = |key: &str, value: &str| field(11, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let metadata = [
        field(1, pod_name(pod).as_bytes()),
        field(3, namespace(pod).as_bytes()),
        field(8, &time_message(EPOCH)),
        label("app", &deployment(pod)),
        label("pod-template-hash", "5d8f7c9b4"),
        label("tier", "backend"),
    ];
    let amount = |resource: &str, text: &str| {
        field(2, &[field(1, resource.as_bytes()), field(2, &field(1, text.as_bytes()))].concat())
    };
    let container = [field(1, b"app"), amount("cpu", CPU), amount("memory", MEMORY)].concat();
    let window = [vec![1 << 3], varint(15_012_000_000)].concat();
    let item = [field(1, &metadata.concat()), field(2, &time_message(EPOCH)), field(3, &window), field(4, &container)];
    field(2, &item.concat())
}

/// Seconds and the nanoseconds that Kubernetes leaves at zero.
fn time_message(seconds: i64) -> Vec<u8> {
    [vec![1 << 3], varint(seconds.cast_unsigned()), vec![2 << 3, 0]].concat()
}

/// `k8s\0` and a `runtime.Unknown` up to its list, of which the items take `len` bytes.
fn envelope(len: usize) -> Vec<u8> {
    let type_meta = [field(1, b"metrics.k8s.io/v1beta1"), field(2, b"PodMetricsList")].concat();
    let list_meta = field(1, &[]);
    let raw = [vec![2 << 3 | 2], varint((list_meta.len() + len) as u64), list_meta];
    [b"k8s\0".to_vec(), field(1, &type_meta), raw.concat()].concat()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}
