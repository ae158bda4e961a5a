//! Which proxy to connect through: the one given, or those of the environment, as curl reads them.

use std::ffi::OsString;

use nerves_hub_link_transport::{Proxy, ProxyRules};

/// The proxies, and what to say about them.
pub struct Chosen {
    /// Which proxy for what.
    pub rules: ProxyRules,
    /// For the log; without passwords.
    pub remarks: Vec<String>,
}

/// Chooses. `given` is the option, which counts alone; an empty one means none, whatever the environment says.
///
/// # Errors
///
/// If the option is no proxy. An unusable one in the environment is only said: the device may get out without.
pub fn choose(given: Option<&str>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Chosen, String> {
    match given {
        Some("") => return Ok(Chosen { rules: ProxyRules::default(), remarks: Vec::new() }),
        Some(url) => {
            let proxy = Proxy::parse(url).map_err(|error| format!("--proxy: {error}"))?;
            let remarks = vec![format!(
                "connecting through the proxy {}, as --proxy says",
                proxy.address().authority()
            )];
            return Ok(Chosen { rules: ProxyRules::all(proxy), remarks });
        }
        None => {}
    }
    let mut remarks = Vec::new();
    let mut read = |name: &str| {
        let (name, value) = [name.to_owned(), name.to_ascii_uppercase()]
            .into_iter()
            .find_map(|name| variable(&name).map(|value| (name, value)))?;
        let Ok(text) = value.into_string() else {
            remarks.push(format!("{name} is ignored: it is not UTF-8"));
            return None;
        };
        Some((name, text.trim().to_owned())).filter(|(_, text)| !text.is_empty())
    };
    let [https, http, all, no_proxy] = ["https_proxy", "http_proxy", "all_proxy", "no_proxy"].map(&mut read);
    let (https, http) = (https.or_else(|| all.clone()), http.or(all));
    let mut proxy = |found: Option<(String, String)>, what: &str| {
        let (name, url) = found?;
        match Proxy::parse(&url) {
            Ok(proxy) => {
                let place = proxy.address().authority();
                remarks.push(format!(
                    "connecting through the proxy {place} to {what} addresses, as {name} says"
                ));
                Some(proxy)
            }
            Err(error) => {
                remarks.push(format!("{name} is ignored: {error}"));
                None
            }
        }
    };
    let (https, http) = (proxy(https, "https"), proxy(http, "http"));
    let used = https.is_some() || http.is_some();
    let mut rules = ProxyRules::by_scheme(https, http);
    if let Some((name, list)) = no_proxy.filter(|_| used) {
        let unread = ProxyRules::unread(&list);
        if !unread.is_empty() {
            remarks.push(format!(
                "{name}: {} except nothing; give names, IP addresses, or networks such as 10.0.0.0/8, without ports and wildcards",
                unread.join(", ")
            ));
        }
        remarks.push(format!("without a proxy to {list}, as {name} says"));
        rules = rules.except(&list);
    }
    Ok(Chosen { rules, remarks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nerves_hub_link_transport::Address;

    fn chosen(given: Option<&str>, variables: &[(&str, &str)]) -> (Option<String>, Option<String>, String) {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let Chosen { rules, remarks } = choose(given, variable).unwrap();
        let of = |url: &str| {
            let address = Address::parse(url).unwrap();
            rules.proxy_for(&address).map(|proxy| proxy.address().authority())
        };
        (of("wss://hub.example"), of("http://files.example"), remarks.join("; "))
    }

    #[test]
    fn the_option_comes_first_then_the_environment_in_lower_case() {
        let all = [
            ("https_proxy", "http://u:s3cret@one:1"),
            ("HTTPS_PROXY", "http://never:1"),
            ("HTTP_PROXY", "two:2"),
            ("no_proxy", "files.example"),
        ];
        let (https, http, said) = chosen(None, &all);
        assert_eq!((https.as_deref(), http.as_deref()), (Some("one:1"), None));
        assert!(said.contains("one:1 to https") && said.contains("files.example"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
        assert_eq!(chosen(None, &all[..3]).1.as_deref(), Some("two:2"));
        let (https, http, _) = chosen(Some("http://given:3"), &all);
        assert_eq!((https.as_deref(), http.as_deref()), (Some("given:3"), Some("given:3")));
        assert_eq!(chosen(Some(""), &all), (None, None, String::new()));
        assert_eq!(chosen(None, &[("https_proxy", ""), ("no_proxy", "*")]), (None, None, String::new()));
    }

    #[test]
    fn one_proxy_may_stand_for_all_and_each_name_for_either_case() {
        let of = |variables: &[(&str, &str)]| {
            let (https, http, _) = chosen(None, variables);
            (https.unwrap_or_default(), http.unwrap_or_default())
        };
        let both = |https: &str, http: &str| (https.to_owned(), http.to_owned());
        assert_eq!(of(&[("all_proxy", "[::1]:1")]), both("[::1]:1", "[::1]:1"));
        assert_eq!(of(&[("ALL_PROXY", "all:1"), ("https_proxy", "one:2")]), both("one:2", "all:1"));
        assert_eq!(of(&[("HTTPS_PROXY", "one:2"), ("HTTP_PROXY", "two:3")]), both("one:2", "two:3"));
        for exceptions in ["[::1]", "::1", "::1/128", "[::]/0"] {
            let variables = [("http_proxy", "one:2"), ("NO_PROXY", exceptions)];
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            let rules = choose(None, variable).unwrap().rules;
            assert!(rules.proxy_for(&Address::parse("http://[::1]:80/").unwrap()).is_none(), "{exceptions}");
        }
        let (.., said) = chosen(None, &[("http_proxy", "one:2"), ("no_proxy", "a.b,*.c,10.0.0.0/40")]);
        assert!(said.contains("no_proxy: *.c, 10.0.0.0/40 except nothing"), "{said}");
    }

    #[test]
    fn an_unusable_proxy_of_the_environment_is_said_and_one_given_is_refused() {
        let (https, _, said) = chosen(None, &[("HTTPS_PROXY", "socks5://u:s3cret@one:1")]);
        assert_eq!(https, None);
        assert!(said.contains("HTTPS_PROXY is ignored") && !said.contains("s3cret"), "{said}");
        let (.., said) = chosen(None, &[("http_proxy", "http://u:s3cret@::1:3128")]);
        assert!(said.contains("http_proxy is ignored") && said.contains("[::1]:8080"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
        assert!(choose(Some("https://u:s3cret@one"), |_| None).is_err_and(|why| !why.contains("s3cret")));
    }
}
