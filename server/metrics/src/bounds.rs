//! The bounds of histograms as Go writes them (`1.048576e+06`): a bound is part of its series' name, which
//! boards and rules made on etcd have.
//!
//! Source: `strconv.FormatFloat` with 'g' and the fewest digits.

const BOUND: &str = "le=\"";

/// A page with its bounds so.
pub(super) fn as_go_writes(page: String) -> String {
    let mut out = String::with_capacity(page.len() + 64);
    let mut rest = page.as_str();
    while let Some(found) = rest.find(BOUND) {
        let (before, bound) = rest.split_at(found + BOUND.len());
        out.push_str(before);
        let end = bound.find('"').unwrap_or(bound.len());
        match bound[..end].parse() {
            Ok(value) => out.push_str(&number(value, &bound[..end])),
            Err(_) => out.push_str(&bound[..end]),
        }
        rest = &bound[end..];
    }
    out.push_str(rest);
    out
}

/// `value`, which Rust writes as `plain`.
fn number(value: f64, plain: &str) -> String {
    let is_plain = !value.is_finite() || value == 0.0 || (1e-4..1e6).contains(&value.abs());
    let scientific = format!("{value:e}");
    let exponent = scientific.split_once('e');
    match exponent.and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !is_plain => format!("{digits}e{exponent:+03}"),
        _ => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (bound, expected) in [
            ("524288", "524288"),
            ("1000000", "1e+06"),
            ("1048576", "1.048576e+06"),
            ("8388608", "8.388608e+06"),
            ("1e21", "1e+21"),
            ("0.0001", "0.0001"),
            ("0.00005", "5e-05"),
            ("0", "0"),
            ("+Inf", "+Inf"),
        ] {
            let page = |bound: &str| {
                format!("# HELP h h\nh_bucket{{a=\"1048576\",le=\"{bound}\"}} 1048576\nh_sum 2\n")
            };
            assert_eq!(as_go_writes(page(bound)), page(expected));
        }
        assert_eq!(as_go_writes("x{le=\"".to_owned()), "x{le=\"");
    }
}
