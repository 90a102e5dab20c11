//! Encoding of metrics: name, type, help and series.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::telemetry::counters::Measured;

/// Labels of a series, as names and values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Writer of metrics.
pub(super) struct Exposition<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Exposition<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// Writes a gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(&[] as Labels<'_>, value)])
    }

    /// Writes a gauge with one value per series.
    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (labels, value) in series {
            encode_series(&mut metric, labels, |metric| metric.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// Writes a counter without labels. The encoder appends `_total` to the name.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(&[] as Labels<'_>, value)])
    }

    /// Writes a counter with one value per series. The encoder appends `_total` to the name.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (labels, value) in series {
            encode_series(&mut metric, labels, |metric| {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
            })?;
        }
        Ok(())
    }

    /// Writes a counter of seconds, with fractions. The encoder appends `_total` to the name.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// Writes a histogram of durations, in seconds.
    pub(super) fn durations<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, &'l Measured)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        for (labels, measured) in series {
            let bounds = measured.bounds.iter().map(|micros| *micros as f64 / 1e6);
            let bounds = bounds.chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(measured.buckets.iter().copied()).collect();
            let (sum, count) = (measured.sum.as_secs_f64(), measured.buckets.iter().sum());
            encode_series(&mut metric, labels, |metric| {
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            })?;
        }
        Ok(())
    }

    /// Writes an info metric, whose labels are its content. The encoder appends `_info` to the name.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) -> fmt::Result {
        self.metric(name, help, MetricType::Info)?
            .encode_info(&labels)
    }

    fn metric<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        metric_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder
            .encode_descriptor(name, help, None, metric_type)
    }
}

fn encode_series(
    metric: &mut MetricEncoder<'_>,
    labels: Labels<'_>,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() {
        encode(metric)
    } else {
        encode(&mut metric.encode_family(&labels)?)
    }
}
