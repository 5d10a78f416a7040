use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug)]
struct Users;

impl Listing for Users {
    const FIELDS: &'static [&'static str] = &["date_joined", "username"];
    const DEFAULT: &'static str = "-date_joined";
    const SEARCH: Option<&'static str> = Some("Username.");
}

fn query(query: &str) -> Result<PageQuery<Users>, Problem> {
    let uri = format!("http://acme.localhost/api/users?{query}").parse().expect("a URI");
    let mut request = Request::builder().uri(uri).finish();
    request.extensions_mut().insert(Origin(Arc::from("http://acme.localhost")));
    // `Request::builder` leaves the original URI empty; what the server makes has it.
    let mut query = PageQuery::read(&request)?;
    query.links.path = "/api/users/".to_owned();
    Ok(query)
}

fn links(text: &str, count: u64) -> serde_json::Value {
    let query = query(text).expect("a query");
    let window = query.window(count).expect("a page");
    json!(query.page::<u8>(&window, Vec::new()))
}

#[test]
fn a_page_of_nothing_is_a_page() {
    let expected = json!({"count": 0, "next": null, "previous": null, "results": []});
    assert_eq!(links("", 0), expected);
    assert_eq!(links("page=1", 0), expected);
    assert_eq!(links("page=last", 0), expected);
}

#[test]
fn links_keep_all_other_parameters_and_page_1_is_left_out() {
    let page = links("search=a%20b&page=2&page_size=50&x=%3C&page=2", 1_023);
    assert_eq!(page["next"], "http://acme.localhost/api/users/?search=a%20b&page_size=50&x=%3C&page=3");
    assert_eq!(page["previous"], "http://acme.localhost/api/users/?search=a%20b&page_size=50&x=%3C");
    let page = links("page=2", 40);
    assert_eq!(
        (page["next"].clone(), page["previous"].clone()),
        (json!(null), json!("http://acme.localhost/api/users/"))
    );
    assert_eq!(links("%70age=last", 45)["previous"], "http://acme.localhost/api/users/?page=2");
}

#[test]
fn a_page_that_is_not_there_is_404() {
    for text in [
        "page=0",
        "page=-1",
        "page=x",
        "page=3",
        "page=1.0",
        "page=%2B1",
        "page=99999999999999999999999",
        "page=Last",
    ] {
        let problem = query(text).expect("a query").window(40).expect_err(text);
        assert_eq!(problem.to_string(), "404 not_found: Invalid page.", "{text}");
    }
}

#[test]
fn the_size_of_a_page_is_clamped_and_nonsense_is_the_default() {
    for (text, limit) in [
        ("50", 50),
        ("101", 100),
        ("99999999999999999999999", 100),
        ("0", 20),
        ("-5", 20),
        ("x", 20),
        ("", 20),
        ("1.5", 20),
    ] {
        let window = query(&format!("page_size={text}")).expect("a query").window(0).expect("a page");
        assert_eq!(window.limit, limit, "{text}");
    }
}

#[test]
fn unknown_orders_are_ignored() {
    let order = |text: &str| {
        let query = query(&format!("ordering={text}")).expect("a query");
        query
            .order()
            .iter()
            .map(|order| format!("{}{}", if order.descending { "-" } else { "" }, order.field))
            .collect::<Vec<_>>()
    };
    assert_eq!(order("username"), ["username"]);
    assert_eq!(order("-username,password,date_joined,username"), ["-username", "date_joined"]);
    assert_eq!(order("password"), ["-date_joined"]);
    assert_eq!(order("--username"), ["-date_joined"]);
}

#[test]
fn a_search_has_bounds() {
    assert_eq!(query("search=+Ann%20%20B%25_+").expect("a query").words(), ["Ann", "B%_"]);
    for (text, sentence) in [
        ("a".repeat(201), "Ensure this field has no more than 200 characters."),
        ("a+".repeat(11), "Ensure this field has no more than 10 words."),
        ("a%00".to_owned(), "Null characters are not allowed."),
    ] {
        let problem = query(&format!("search={text}")).expect_err(sentence);
        assert!(format!("{problem:?}").contains(sentence), "{problem:?}");
    }
}

proptest! {
    #[test]
    fn walking_the_pages_meets_each_row_once(count in 0_u64..700, size in 1_u64..101) {
        let mut rows = 0;
        let mut text = format!("page_size={size}");
        loop {
            let query = query(&text).expect("a query");
            let window = query.window(count).expect("a page");
            prop_assert_eq!(window.offset, rows);
            rows += window.limit.min(count - window.offset);
            let page = json!(query.page::<u8>(&window, Vec::new()));
            match page["next"].as_str().and_then(|next| next.split_once('?')) {
                Some((_, next)) => text = next.to_owned(),
                None => break,
            }
        }
        prop_assert_eq!(rows, count);
    }
}
