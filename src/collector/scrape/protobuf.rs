//! `PodMetricsList` as Kubernetes protobuf: a walk over the bytes that allocates nothing per pod or container.
//!
//! The envelope is `k8s\0` and a `runtime.Unknown`; field numbers are those of `k8s.io/metrics` v1beta1 and of
//! apimachinery: <https://github.com/kubernetes/metrics/blob/master/pkg/apis/metrics/v1beta1/generated.proto>.
//! Invariant: says the same as the JSON form of the same list.

use super::wire::{Field, Fields, WireError};
use super::{ContainerPoint, KIND, PodPoints, ScrapeError};
use crate::quantity;
use jiff::Timestamp;

const MAGIC: &[u8] = b"k8s\0";

/// Calls `each` with every pod of the list, whose parts are borrowed from `body`; how many there are.
///
/// A bad time or amount is `None` and spoils nothing else; bytes that are no list are an error, before which `each` may
/// have been called.
pub fn decode_protobuf<'a>(body: &'a [u8], mut each: impl FnMut(&PodPoints<'a>)) -> Result<usize, ScrapeError> {
    let object = unwrap(body)?;
    if object.kind != KIND {
        return Err(ScrapeError::other_kind(object.kind));
    }
    let mut pods = 0;
    let mut pod = PodPoints::default();
    object
        .raw
        .each(|field| {
            if field.number == 2 {
                pod.clear();
                read_pod(field.message()?, &mut pod)?;
                each(&pod);
                pods += 1;
            }
            Ok(())
        })
        .map_err(malformed)?;
    Ok(pods)
}

/// The message of a `Status`, where `body` is one.
pub(super) fn status_message(body: &[u8]) -> Option<&str> {
    let object = unwrap(body).ok().filter(|object| object.kind == "Status")?;
    let mut message = None;
    let read = object.raw.each(|field| {
        if field.number == 3 {
            message = Some(field.text()?);
        }
        Ok(())
    });
    read.ok().and(message)
}

/// What the envelope holds.
#[derive(Default)]
struct Object<'a> {
    kind: &'a str,
    raw: Fields<'a>,
    encoding: &'a str,
}

fn unwrap(body: &[u8]) -> Result<Object<'_>, ScrapeError> {
    let unknown =
        body.strip_prefix(MAGIC).ok_or_else(|| ScrapeError::Malformed("it lacks the prefix k8s\\0".into()))?;
    let mut object = Object::default();
    let read = Fields::new(unknown).each(|field| match field.number {
        1 => field.message()?.each(|field| {
            if field.number == 2 {
                object.kind = field.text()?;
            }
            Ok(())
        }),
        2 => field.message().map(|raw| object.raw = raw),
        3 => field.text().map(|encoding| object.encoding = encoding),
        _ => Ok(()),
    });
    read.map_err(malformed)?;
    if !object.encoding.is_empty() {
        return Err(ScrapeError::Malformed(format!("its encoding is \"{}\"", object.encoding)));
    }
    Ok(object)
}

fn read_pod<'a>(message: Fields<'a>, pod: &mut PodPoints<'a>) -> Result<(), WireError> {
    message.each(|field| match field.number {
        1 => field.message()?.each(|field| match field.number {
            1 => field.text().map(|name| pod.pod = name.into()),
            3 => field.text().map(|namespace| pod.namespace = namespace.into()),
            _ => Ok(()),
        }),
        2 => time(field).map(|at| pod.at = at),
        4 => container(field.message()?).map(|point| pod.containers.push(point)),
        _ => Ok(()),
    })
}

/// A `Time`, empty where it is Go's zero. Nanoseconds are left out, as Kubernetes itself does: JSON has none.
fn time(field: Field<'_>) -> Result<Option<Timestamp>, WireError> {
    let mut seconds = 0;
    field.message()?.each(|field| {
        if field.number == 1 {
            seconds = field.signed()?;
        }
        Ok(())
    })?;
    let given = !field.bytes()?.is_empty();
    Ok(Timestamp::from_second(seconds).ok().filter(|_| given))
}

fn container(message: Fields<'_>) -> Result<ContainerPoint<'_>, WireError> {
    let mut point = ContainerPoint::default();
    message.each(|field| match field.number {
        1 => field.text().map(|name| point.name = name.into()),
        2 => usage(field.message()?, &mut point),
        _ => Ok(()),
    })?;
    Ok(point)
}

/// One entry of the map from resource to `Quantity`.
fn usage(entry: Fields<'_>, point: &mut ContainerPoint<'_>) -> Result<(), WireError> {
    let (mut resource, mut amount) = (&b""[..], "");
    entry.each(|field| match field.number {
        1 => field.bytes().map(|name| resource = name),
        2 => field.message()?.each(|field| {
            if field.number == 1 {
                amount = field.text()?;
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    match resource {
        b"cpu" => point.cpu = quantity::parse_f64(amount).ok(),
        b"memory" => point.memory = quantity::parse_f64(amount).ok(),
        _ => {}
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn malformed(error: WireError) -> ScrapeError {
    ScrapeError::Malformed(error.to_string())
}
