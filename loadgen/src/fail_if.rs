//! `--fail-if 'latency_us.p99 > 20000'`: a condition on a field of the report. Parsed and checked against the report's
//! fields before the run.

use crate::report::Report;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// A field, a comparison and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    field: Vec<String>,
    operator: Operator,
    operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Is,
    IsNot,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Number(f64),
    Truth(bool),
    Text(String),
}

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("==", Operator::Is),
    ("!=", Operator::IsNot),
    (">", Operator::Above),
    ("<", Operator::Below),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, symbol, operator) = OPERATORS
            .iter()
            .filter_map(|&(symbol, operator)| text.find(symbol).map(|at| (at, symbol, operator)))
            .min_by_key(|&(at, symbol, _)| (at, std::cmp::Reverse(symbol.len())))
            .ok_or("a comparison is missing: FIELD > NUMBER, with one of > >= < <= == !=")?;
        let field = text[..at].trim();
        let condition = Self {
            text: text.trim().to_owned(),
            field: field.split('.').map(str::to_owned).collect(),
            operator,
            operand: Operand::parse(text[at + symbol.len()..].trim())?,
        };
        condition.check(field)?;
        Ok(condition)
    }
}

impl Condition {
    /// Whether the condition holds for this report. A field that was not measured in this run (null) makes it hold: a
    /// threshold that cannot be checked must not pass.
    ///
    /// The same goes for percentiles of nothing. Where a part of the path is a list, it holds where it does for any of its entries:
    /// of the timeline, for any second of the measured part in which there was something to measure.
    pub fn holds(&self, report: &Value) -> bool {
        self.holds_at(report, &self.field)
    }

    fn holds_at(&self, value: &Value, path: &[String]) -> bool {
        if let Value::Array(values) = value {
            let mut measured = values
                .iter()
                .filter(|value| value.get("phase").is_none_or(|phase| phase == "run"))
                .filter(|value| is_measured(value, path))
                .peekable();
            return measured.peek().is_none() || measured.any(|value| self.holds_at(value, path));
        }
        match path {
            _ if !is_measured(value, path) => self.holds_for(&Value::Null),
            [name, below @ ..] => self.holds_at(value.get(name).unwrap_or(&Value::Null), below),
            [] => self.holds_for(value),
        }
    }

    fn holds_for(&self, value: &Value) -> bool {
        match (&self.operand, value) {
            (_, Value::Null) => true,
            (Operand::Number(number), value) => value.as_f64().is_some_and(|value| match self.operator {
                Operator::Above => value > *number,
                Operator::AtLeast => value >= *number,
                Operator::Below => value < *number,
                Operator::AtMost => value <= *number,
                Operator::Is => (value - number).abs() < f64::EPSILON,
                Operator::IsNot => (value - number).abs() >= f64::EPSILON,
            }),
            (Operand::Truth(truth), value) => {
                (value.as_bool() == Some(*truth)) == (self.operator == Operator::Is)
            }
            (Operand::Text(text), value) => (value.as_str() == Some(text)) == (self.operator == Operator::Is),
        }
    }

    /// The field of a report that has one of each list.
    fn lookup<'a>(&self, report: &'a Value) -> Option<&'a Value> {
        let first = |value: &'a Value| value.as_array().map_or(Some(value), |values| values.first());
        self.field.iter().try_fold(report, |value, name| first(value)?.get(name))
    }

    fn check(&self, field: &str) -> Result<(), String> {
        let example = serde_json::to_value(Report::example()).map_err(|error| error.to_string())?;
        let value = self.lookup(&example).ok_or_else(|| {
            let names =
                example.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>().join(", "));
            format!("the report has no field '{field}'; it has {}", names.unwrap_or_default())
        })?;
        let equality = matches!(self.operator, Operator::Is | Operator::IsNot);
        match (&self.operand, value) {
            (Operand::Number(_), Value::Number(_)) => Ok(()),
            (Operand::Truth(_), Value::Bool(_)) | (Operand::Text(_), Value::String(_)) if equality => Ok(()),
            (Operand::Truth(_) | Operand::Text(_), Value::Bool(_) | Value::String(_)) => {
                Err(format!("'{field}' can be compared with == and != only"))
            }
            (_, Value::Number(_)) => Err(format!("'{field}' is a number: compare it with one")),
            (_, Value::Bool(_)) => Err(format!("'{field}' is true or false: compare it with one of these")),
            (_, Value::String(_)) => Err(format!("'{field}' is a text: compare it with one")),
            _ => Err(format!("'{field}' is not a single value; name one of its parts, like latency_us.p99")),
        }
    }
}

/// Whether the field below `value` comes from a measurement: percentiles of no value at all do not.
fn is_measured(value: &Value, path: &[String]) -> bool {
    let [name, below @ ..] = path else { return true };
    let is_empty = value.get("p50").is_some() && value.get("count").and_then(Value::as_u64) == Some(0);
    if is_empty && name != "count" {
        return false;
    }
    value.get(name).is_none_or(|value| is_measured(value, below))
}

impl Operand {
    fn parse(text: &str) -> Result<Self, String> {
        let unquoted = text.trim_matches(|quote| quote == '\'' || quote == '"');
        match text {
            "" => Err("a value is missing behind the comparison".into()),
            "true" => Ok(Self::Truth(true)),
            "false" => Ok(Self::Truth(false)),
            _ => Ok(match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Number(number),
                _ => Self::Text(unquoted.to_owned()),
            }),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_is_read_and_evaluated() {
        let report = json!({"latency_us": {"p99": 20_000}, "messages_lost": 0, "generator_saturated": false,
                            "verdict": "clean", "gateway_cpu_s": null});
        for (text, expected) in [
            ("latency_us.p99 > 20000", false),
            ("latency_us.p99>=20000", true),
            ("latency_us.p99 < 20000.5", true),
            ("latency_us.p99 <= 19999", false),
            ("messages_lost != 0", false),
            ("messages_lost == 0", true),
            ("generator_saturated == true", false),
            ("verdict != 'clean'", false),
            ("verdict != lost", true),
            ("gateway_cpu_s > 1", true),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().holds(&report), expected, "{text}");
        }
    }

    #[test]
    fn a_condition_on_the_timeline_holds_where_it_does_in_any_measured_second() {
        let second = |phase: &str, p99: u64, cpus: Value| json!({"phase": phase, "latency_us": {"p99": p99}, "gateway_cpus": cpus});
        let report = json!({"timeline": [
            second("ramp", 90_000, Value::Null), second("run", 10, json!(0.5)), second("run", 7000, json!(1.5)),
        ]});
        for (text, expected) in [
            ("timeline.latency_us.p99 > 6000", true),
            ("timeline.latency_us.p99 > 7000", false),
            ("timeline.latency_us.p99 < 11", true),
            ("timeline.gateway_cpus > 2", false),
            ("timeline.phase == ramp", false),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().holds(&report), expected, "{text}");
        }
        let condition: Condition = "timeline.latency_us.p99 > 6000".parse().unwrap();
        assert!(condition.holds(&json!({"timeline": []})), "what was not measured must not pass");
        assert!("timeline.latency_us.p98 > 1".parse::<Condition>().unwrap_err().contains("no field"));
        assert!("timeline > 1".parse::<Condition>().unwrap_err().contains("not a single value"));
    }

    #[test]
    fn percentiles_of_nothing_pass_no_threshold() {
        let second = |count: u64, p99: u64| json!({"phase": "run", "latency_us": {"count": count, "p50": 0, "p99": p99}});
        let holds = |report: &Value, text: &str| text.parse::<Condition>().unwrap().holds(report);
        let nothing = json!({"latency_us": {"count": 0, "p50": 0, "p99": 0}, "timeline": [second(0, 0)]});
        assert!(
            holds(&nothing, "latency_us.p99 > 20000") && holds(&nothing, "timeline.latency_us.p99 > 20000")
        );
        assert!(!holds(&nothing, "latency_us.count > 0"));
        // A second without an arrival says nothing, the next one tells of the stall.
        let stalled = json!({"timeline": [second(5, 90), second(0, 0), second(5, 900)]});
        assert!(!holds(&stalled, "timeline.latency_us.p99 < 90"));
        assert!(
            holds(&stalled, "timeline.latency_us.p99 > 800")
                && !holds(&stalled, "timeline.latency_us.p99 > 900")
        );
    }

    #[test]
    fn a_bad_condition_is_refused_with_its_reason() {
        for (text, reason) in [
            ("latency_us.p99", "comparison is missing"),
            ("latency_us.p99 >", "value is missing"),
            ("latency.p99 > 1", "no field 'latency.p99'"),
            ("latency_us > 1", "is not a single value"),
            ("messages_lost > yes", "is a number"),
            ("generator_saturated == 1", "true or false"),
            ("verdict > 'clean'", "== and != only"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
