//! The list as OpenTelemetry reads it: requests of OTLP/HTTP in protobuf, with the names and labels of `/metrics`.
//!
//! The messages are the few that figures need, as opentelemetry-proto numbers them (its crate brings the whole SDK). A
//! long list is several requests, and one beyond all bounds is cut.

use prost::Message;

use super::{Kind, Labels, Sink};
use crate::figures::{COMMIT_BOUNDS, Commits};

/// Bytes of a request, about: it is closed with the sample that goes beyond. Receivers take 4 MiB at least.
const REQUEST_BYTES: usize = 1 << 20;
/// What a metric has beside its samples, about.
const METRIC_BYTES: usize = 128;
/// Requests of one list; samples beyond are left out.
const REQUESTS_MAX: usize = 16;

/// What all samples of a list say.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Which of the masters: the id of its cluster.
    pub(super) instance: String,
    /// Nanoseconds since 1970.
    pub(super) started_at: u64,
    pub(super) now: u64,
}

/// The list, cut into requests.
#[derive(Debug)]
pub(super) struct Requests {
    origin: Origin,
    done: Vec<Vec<u8>>,
    metrics: Vec<Metric>,
    /// Of `metrics`, about.
    bytes: usize,
    /// Of the family that was begun last.
    kind: Kind,
    left_out: u64,
}

impl Requests {
    pub(super) fn new(origin: Origin) -> Self {
        let (done, metrics) = (Vec::new(), Vec::new());
        Self { origin, done, metrics, bytes: 0, kind: Kind::Gauge, left_out: 0 }
    }

    /// The requests, and how many samples have no room in them.
    pub(super) fn finish(mut self) -> (Vec<Vec<u8>>, u64) {
        self.close();
        (self.done, self.left_out)
    }

    /// Makes a request of what there is, and goes on with the same family.
    fn close(&mut self) {
        let mut metrics = std::mem::take(&mut self.metrics);
        let next = metrics.last().map(|last| Metric {
            name: last.name.clone(),
            description: last.description.clone(),
            data: empty(self.kind),
        });
        metrics.retain(|metric| !metric.is_empty());
        self.bytes = 0;
        self.metrics.extend(next);
        if metrics.is_empty() {
            return;
        }
        let scope = Scope { name: "piccolo".to_owned(), version: VERSION.to_owned() };
        let attributes = vec![
            attribute("service.name", "piccolo-master"),
            attribute("service.instance.id", &self.origin.instance),
            attribute("service.version", VERSION),
        ];
        let request = ExportRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource { attributes }),
                scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
            }],
        };
        self.done.push(request.encode_to_vec());
    }

    /// Whether there is room for a sample of this size.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.done.len() >= REQUESTS_MAX {
            self.left_out += 1;
            return false;
        }
        self.bytes += bytes;
        true
    }

    fn close_if_full(&mut self) {
        if self.bytes >= REQUEST_BYTES {
            self.close();
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Sink for Requests {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.kind = kind;
        self.bytes += METRIC_BYTES;
        let data = empty(kind);
        self.metrics.push(Metric { name: name.to_owned(), description: help.to_owned(), data });
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        let start_time_unix_nano = match self.kind {
            Kind::Counter => self.origin.started_at,
            // zero: not known
            Kind::Gauge | Kind::OlderCounter => 0,
        };
        let attributes = labels.iter().map(|(key, value)| attribute(key, value)).collect();
        let time_unix_nano = self.origin.now;
        let point = NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            value: Some(value),
        };
        if !self.has_room(point.encoded_len()) {
            return;
        }
        match self.metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            Some(Data::Sum(sum)) => sum.data_points.push(point),
            // a histogram is a family of its own, without samples
            Some(Data::Histogram(_)) | None => {}
        }
        self.close_if_full();
    }

    fn histogram(&mut self, name: &str, help: &str, commits: &Commits) {
        let mut before = 0;
        let each = commits.at_most.iter().chain([&commits.count]).map(|at_most| {
            let count = at_most.saturating_sub(before);
            before = *at_most;
            count
        });
        let point = HistogramDataPoint {
            bucket_counts: each.collect(),
            start_time_unix_nano: self.origin.started_at,
            time_unix_nano: self.origin.now,
            count: commits.count,
            sum: Some(commits.seconds),
            explicit_bounds: COMMIT_BOUNDS.to_vec(),
        };
        if !self.has_room(METRIC_BYTES + point.encoded_len()) {
            return;
        }
        let histogram = Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
        let data = Some(Data::Histogram(histogram));
        self.metrics.push(Metric { name: name.to_owned(), description: help.to_owned(), data });
        self.close_if_full();
    }
}

/// Samples that a receiver did not take, although it took the request; an error where its answer is no answer of OTLP.
pub(super) fn rejected(answer: &[u8]) -> Result<i64, prost::DecodeError> {
    let answer = ExportResponse::decode(answer)?;
    Ok(answer.partial_success.map_or(0, |partial| partial.rejected_data_points))
}

fn empty(kind: Kind) -> Option<Data> {
    let data_points = Vec::new();
    Some(match kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points }),
        Kind::Counter | Kind::OlderCounter => {
            let (aggregation_temporality, is_monotonic) = (CUMULATIVE, true);
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
        }
    })
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { string_value: Some(value.to_owned()) });
    KeyValue { key: key.to_owned(), value }
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: a sample counts from the start, not from the sample before.
const CUMULATIVE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    data: Option<Data>,
}

impl Metric {
    fn is_empty(&self) -> bool {
        match &self.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.is_empty(),
            Some(Data::Sum(sum)) => sum.data_points.is_empty(),
            Some(Data::Histogram(histogram)) => histogram.data_points.is_empty(),
            None => true,
        }
    }
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberDataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<HistogramDataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct NumberDataPoint {
    #[prost(fixed64, tag = "2")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    time_unix_nano: u64,
    /// Of a `oneof`: written even where it is zero.
    #[prost(double, optional, tag = "4")]
    value: Option<f64>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramDataPoint {
    #[prost(fixed64, tag = "2")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    explicit_bounds: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    /// Of a `oneof`: written even where it is empty.
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Requests {
        let instance = "robot".to_owned();
        Requests::new(Origin { instance, started_at: 1_000, now: 9_000 })
    }

    /// What a receiver makes of them: the metrics of each request.
    fn received(requests: Requests) -> (Vec<Vec<Metric>>, u64) {
        let (requests, left_out) = requests.finish();
        let metrics = requests.iter().map(|request| {
            assert!(request.len() < 2 * REQUEST_BYTES, "{}", request.len());
            let mut request = ExportRequest::decode(request.as_slice()).unwrap();
            let mut resource = request.resource_metrics.remove(0);
            let attributes = resource.resource.unwrap().attributes;
            assert_eq!(attributes[1], attribute("service.instance.id", "robot"));
            resource.scope_metrics.remove(0).metrics
        });
        (metrics.collect(), left_out)
    }

    #[test]
    fn a_counter_says_since_when_and_a_gauge_is_what_it_is_now() {
        let mut list = requests();
        list.counter("a_total", "A.", 3.0);
        list.family("b_total", "B.", Kind::OlderCounter);
        list.sample(&[("node", "n\"1")], 4.0);
        list.gauge("c", "C.", 0.0);
        list.family("nothing", "Of nobody.", Kind::Gauge);
        let (requests, left_out) = received(list);
        assert_eq!((requests.len(), left_out), (1, 0));
        let seen: Vec<_> = requests[0]
            .iter()
            .map(|metric| match metric.data.as_ref().unwrap() {
                Data::Gauge(gauge) => (metric.name.as_str(), false, gauge.data_points[0].clone()),
                Data::Sum(sum) => {
                    assert_eq!(sum.aggregation_temporality, CUMULATIVE);
                    (metric.name.as_str(), sum.is_monotonic, sum.data_points[0].clone())
                }
                Data::Histogram(_) => panic!("{metric:?}"),
            })
            .map(|(name, counts, at)| {
                (name, counts, at.start_time_unix_nano, at.value, at.attributes)
            })
            .collect();
        let labels = vec![attribute("node", "n\"1")];
        let expected = [
            ("a_total", true, 1_000, Some(3.0), vec![]),
            ("b_total", true, 0, Some(4.0), labels),
            ("c", false, 0, Some(0.0), vec![]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_histogram_counts_in_each_bucket_what_is_in_no_smaller_one() {
        let mut at_most = [4; COMMIT_BOUNDS.len()];
        at_most[0] = 1;
        at_most[1] = 3;
        let mut list = requests();
        list.histogram("h", "H.", &Commits { at_most, count: 6, seconds: 2.5 });
        let (requests, _) = received(list);
        let Some(Data::Histogram(histogram)) = &requests[0][0].data else { panic!("{requests:?}") };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((point.count, point.sum), (6, Some(2.5)));
        assert_eq!(point.explicit_bounds.len() + 1, point.bucket_counts.len());
    }

    #[test]
    fn a_long_list_is_several_requests_and_one_without_end_is_cut() {
        let long = "x".repeat(1000);
        let samples_of = |count: usize| {
            let mut list = requests();
            list.family("f_total", "F.", Kind::Counter);
            (0..count).for_each(|i| list.sample(&[("of", &format!("{i}{long}"))], i as f64));
            let (requests, left_out) = received(list);
            let samples: Vec<f64> = requests
                .iter()
                .flatten()
                .flat_map(|metric| match metric.data.as_ref().unwrap() {
                    Data::Sum(sum) => sum.data_points.iter().map(|point| point.value.unwrap()),
                    Data::Gauge(_) | Data::Histogram(_) => panic!("{}", metric.name),
                })
                .collect();
            assert!(samples.iter().enumerate().all(|(i, value)| *value == i as f64));
            (requests.len(), samples.len() as u64, left_out)
        };
        assert_eq!(samples_of(2_500), (3, 2_500, 0));
        let (requests, taken, left_out) = samples_of(20_000);
        assert_eq!((requests, taken + left_out), (REQUESTS_MAX, 20_000));
        assert!(left_out > 0);
    }

    #[test]
    fn what_is_no_answer_of_otlp_is_not_taken_for_one() {
        assert_eq!(rejected(b""), Ok(0));
        let partial_success = Some(PartialSuccess { rejected_data_points: 7 });
        assert_eq!(rejected(&ExportResponse { partial_success }.encode_to_vec()), Ok(7));
        assert!(rejected(b"<!doctype html>").is_err());
    }
}
