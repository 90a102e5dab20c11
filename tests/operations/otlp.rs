//! OpenTelemetry collector that receives OTLP over HTTP and keeps the spans.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1,
};
use prost::Message as _;

/// A span, with the fields that the tests check.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace_id: String,
    pub id: String,
    pub parent_id: String,
    pub kind: v1::span::SpanKind,
    pub is_error: bool,
    pub attributes: HashMap<String, String>,
    /// Attributes of the process.
    pub resource: HashMap<String, String>,
}

pub struct Collector {
    pub url: String,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    header_sections: Vec<String>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Received>>::default();
        let kept = received.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                thread::spawn(move || serve(&stream, &kept));
            }
        });
        Self { url, received }
    }

    /// Returns all spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// Returns the header sections of the requests received so far, in lower case.
    pub fn header_sections(&self) -> Vec<String> {
        self.received.lock().unwrap().header_sections.clone()
    }

    /// Waits for a span that matches, and returns it.
    #[track_caller]
    pub fn await_span(&self, matches: impl Fn(&Span) -> bool) -> Span {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(span) = self.spans().into_iter().find(&matches) {
                return span;
            }
            assert!(Instant::now() < deadline, "not among {:?}", self.spans());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn serve(stream: &TcpStream, received: &Mutex<Received>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            if reader.read_line(&mut headers).unwrap_or(0) == 0 {
                return;
            }
        }
        let headers = headers.to_lowercase();
        let length = headers.split("content-length: ").nth(1).unwrap();
        let length = length.lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let sent = ExportTraceServiceRequest::decode(&body[..]).expect("OTLP");
        {
            let mut received = received.lock().unwrap();
            received.header_sections.push(headers);
            received.spans.extend(spans(sent));
        }
        let mut stream = stream;
        let response =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn spans(sent: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in sent.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for span in of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            let hex = |id: &[u8]| {
                id.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            };
            assert!(
                span.end_time_unix_nano >= span.start_time_unix_nano,
                "{span:?}"
            );
            spans.push(Span {
                trace_id: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent_id: hex(&span.parent_span_id),
                kind: span.kind(),
                is_error: span
                    .status
                    .is_some_and(|status| status.code() == v1::status::StatusCode::Error),
                name: span.name,
                attributes: attributes(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value| match value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("an attribute of another kind: {other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes
        .map(|attribute| {
            (
                attribute.key,
                text(attribute.value.and_then(|value| value.value)),
            )
        })
        .collect()
}
