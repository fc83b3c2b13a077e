//! What is kept of a purged order's text: enough to answer its key as before, none of the values that could be secrets.

use serde_json::Value;

/// K and OPc under an operator's key: who holds that key opens them.
const WRAPPED: [&str; 2] = ["ki_wrapped", "opc_wrapped"];

/// The order without confirmation codes (their SHA-256 can be guessed), without variables (PINs may be ordered), without the
/// columns of the orderer's own that feed them, and without wrapped K and OPc. It still reads as an order.
pub fn without_values(body: &[u8]) -> Vec<u8> {
    let Ok(mut order) = serde_json::from_slice::<Value>(body) else { return b"{}".to_vec() };
    let lines = order.get_mut("lines").and_then(Value::as_array_mut);
    for line in lines.into_iter().flatten().filter_map(Value::as_object_mut) {
        line.remove("confirmation_code");
        line.remove("vars");
        let rows = line.get_mut("rows").and_then(Value::as_array_mut);
        rows.into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
            .for_each(|row| row.retain(|name, _| !name.starts_with("x_") && !WRAPPED.contains(&name.as_str())));
    }
    order.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Order;

    #[test]
    fn codes_and_values_go_and_an_order_stays() {
        let order = serde_json::json!({
            "schema": "bindery.order/1", "order_id": "PO-1", "tenant": "acme", "kind": "test", "lines": [{
                "line": 1, "template": "t@1", "mode": "order", "quantity": 2, "iccid": {"first": "89000123456789012341"},
                "imsi": {"first": "001010123456063"}, "export": [], "confirmation_code": "4711-CODE",
                "vars": {"pin1": "9182", "gid1": {"column": "x_gid"}}, "rows": [
                    {"x_gid": "7364", "ki_wrapped": "A1A1A1", "opc_wrapped": "B2B2B2"},
                    {"x_gid": "5546", "ki_wrapped": "C3C3C3", "opc_wrapped": "D4D4D4"},
                ],
                "metadata": {"service_provider": "A", "profile_name": "B", "class": "test"},
            }],
        })
        .to_string();
        Order::from_json(order.as_bytes()).unwrap();
        let kept = String::from_utf8(without_values(order.as_bytes())).unwrap();
        for value in ["4711", "9182", "7364", "5546", "A1A1A1", "B2B2B2", "C3C3C3", "D4D4D4"] {
            assert!(order.contains(value) && !kept.contains(value), "{value}");
        }
        assert_eq!(Order::from_json(kept.as_bytes()).unwrap().lines.len(), 1);
        assert_eq!(without_values(b"no JSON"), b"{}");
    }
}
