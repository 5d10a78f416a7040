//! The configuration as a whole: layers, all problems at once, and the rules between settings.

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OUFCQ0RFRkdISUpLTE1OT1BRUlNUVVY=";
const DATABASE: (&str, &str) = ("TENANTRY_DATABASE_URL", "postgres://app:s3cret@db.example.com/main");

fn parse(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::parse(Some((Path::new("tenantry.toml"), file)), variables)
}

fn from_environment(environment: &[(&str, &str)]) -> Config {
    parse("", environment).unwrap()
}

fn refusal(environment: &[(&str, &str)]) -> String {
    from_environment(environment).validate_for_serve().unwrap_err().to_string()
}

#[test]
fn without_any_setting_it_is_development() {
    let config = from_environment(&[]);
    config.validate_for_serve().unwrap();
    assert!(config.is_development());
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url().as_str(), "http://localhost:8080/");
    assert!(matches!(config.database(), Database::Embedded { data_dir } if data_dir == ".tenantry"));
    assert!(matches!(config.mail(), Mail::Files(directory) if directory == Path::new(".tenantry/mail")));
    assert_eq!(config.mail_from().address, "no-reply@localhost");
    assert!(config.rate_limits);
    assert_eq!(config.lane_pool_size, 4);
}

#[test]
fn the_environment_counts_more_than_the_file_and_the_file_more_than_the_default() {
    let file = "listen = \"127.0.0.1:1000\"\nbase_domain = \"example.com\"\nlane_pool_size = 6\n\
                cors_origins = [\"https://a.example\", \"https://b.example\"]\n";
    let config = parse(file, &[("TENANTRY_LISTEN", "127.0.0.1:2000"), ("PATH", "/bin")]).unwrap();
    assert_eq!(config.listen.port(), 2000);
    assert_eq!(config.base_domain.as_str(), "example.com");
    assert_eq!(config.lane_pool_size, 6);
    assert_eq!(config.cors_origins.len(), 2);
    assert_eq!(config.public_url().as_str(), "http://example.com:2000/");
}

#[test]
fn every_default_in_the_table_is_a_value_and_every_name_is_unique() {
    from_environment(&[]);
    let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
}

#[test]
fn every_wrong_value_is_told_at_once_and_no_secret_with_it() {
    let file = "listen = 8080\nbase_domain = \"exa mple\"\nlisten_adress = \"\"\nrate_limits = false\n";
    let error = parse(
        file,
        &[
            ("TENANTRY_ADMIN_LISTEN", "localhost"),
            ("TENANTRY_DATABASE_URL", "mysql://app:s3cret@db/main"),
            ("TENANTRY_SMTP_URL", "s3cret"),
            ("TENANTRY_MASTER_KEY", "s3cret"),
            ("TENANTRY_PUBLIC_URL", "https://me:s3cret@example.com"),
            ("TENANTRY_TRUSTED_PROXIES", "10.0.0.0/8, 10.0.0.0/99"),
            ("TENANTRY_CORS_ORIGINS", "https://a.example,https://me:s3cret@b.example"),
            ("TENANTRY_LOG", "inof"),
            ("TENANTRY_DATABSE_URL", "s3cret"),
            ("TENANTRY_XYZ", "s3cret"),
        ],
    )
    .unwrap_err()
    .to_string();
    assert!(!error.contains("s3cret"));
    insta::assert_snapshot!(error);
}

#[test]
fn a_parameter_of_a_database_url_that_nobody_reads_is_refused_without_its_value() {
    let url = |parameters: &str| format!("postgres://app@db/main?{parameters}");
    let config = |parameters: &str| parse("", &[("TENANTRY_DATABASE_URL", &url(parameters))]);
    assert!(config("sslmode=require&options[geqo]=off&host=/run/postgresql").is_ok());
    let error = config("sslmode=require&pasword=s3cret").unwrap_err().to_string();
    assert!(error.contains("has an unknown parameter: pasword") && !error.contains("s3cret"), "{error}");
    for name in ["connect_timeout", "target_session_attrs", "options"] {
        let error = config(&format!("{name}=s3cret")).unwrap_err().to_string();
        let said = format!("has a parameter of libpq that this service does not take: {name}");
        assert!(error.contains(&said) && !error.contains("s3cret"), "{error}");
    }
    // A password that was not escaped.
    let url = "postgres://app:12/ab?SommerSecret@db/main";
    let error = parse("", &[("TENANTRY_DATABASE_URL", url)]).unwrap_err().to_string();
    assert!(error.contains("has an unknown parameter;") && !error.contains("Sommer"), "{error}");
    let error = config("a-b%0a=s3cret").unwrap_err().to_string();
    assert!(error.contains("has an unknown parameter;") && !error.contains("a-b"), "{error}");
}

#[test]
fn a_file_that_is_not_toml_is_told_by_its_line_without_showing_it() {
    let error = parse("listen = \"127.0.0.1:80\"\nmaster_key = s3cret\n", &[]).unwrap_err().to_string();
    assert!(error.contains("tenantry.toml, line 2") && !error.contains("s3cret"), "{error}");
}

#[test]
fn a_named_file_must_be_there_and_the_default_one_need_not() {
    let absent = Path::new("/nonexistent/tenantry.toml");
    let error = Config::load(Some(absent), std::iter::empty()).unwrap_err().to_string();
    assert!(error.contains("the file (/nonexistent/tenantry.toml): cannot be read"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my.toml");
    std::fs::write(&path, "data_dir = \"/srv/tenantry\"").unwrap();
    let config = Config::load(Some(&path), std::iter::empty()).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/tenantry"));
    assert_eq!(config.with_data_dir("/tmp/x".into()).data_dir, Path::new("/tmp/x"));
}

#[test]
fn a_variable_that_is_empty_or_made_by_kubernetes_does_not_count() {
    from_environment(&[
        ("TENANTRY_SMTP_URL", ""),
        ("TENANTRY_SERVICE_HOST", "10.0.0.1"),
        ("TENANTRY_SERVICE_PORT_HTTP", "80"),
        ("TENANTRY_PORT", "tcp://10.0.0.1:80"),
        ("TENANTRY_ADMIN_PORT_80_TCP_ADDR", "10.0.0.1"),
    ]);
    assert!(parse("", &[("TENANTRY_PORT", "8080")]).is_err());
}

#[test]
fn the_master_key_may_come_from_a_file_but_not_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let file = ("TENANTRY_MASTER_KEY_FILE", path.to_str().unwrap());
    let key = from_environment(&[file]).master_key.unwrap();
    assert_eq!(key.key().expose(), b"0123456789ABCDEFGHIJKLMNOPQRSTUV");

    let twice = parse("", &[file, ("TENANTRY_MASTER_KEY", KEY)]).unwrap_err().to_string();
    assert!(
        twice.contains("TENANTRY_MASTER_KEY_FILE (environment): the master key is given twice"),
        "{twice}"
    );
}

#[test]
fn contradictions_are_refused() {
    for (environment, wrong) in [
        (&[("TENANTRY_DIRECT_DATABASE_URL", DATABASE.1)][..], "there is no database URL beside it"),
        (&[("TENANTRY_DATABASE_POOLING", "transaction")], "there is no pooler before the embedded database"),
        (
            &[("TENANTRY_DATABASE_POOLING", "transaction"), DATABASE],
            "TENANTRY_DIRECT_DATABASE_URL (not set): behind a pooler by transaction",
        ),
        (&[("TENANTRY_DATABASE_POOLING", "statement")], "TENANTRY_DATABASE_POOLING"),
        (&[("TENANTRY_MAIL", "file"), ("TENANTRY_SMTP_URL", "smtps://h")], "mails to files contradict"),
        (&[("TENANTRY_ADMIN_LISTEN", "127.0.0.1:8080")], "is the address of the main listener"),
        (
            &[("TENANTRY_PUBLIC_URL", "https://example.com")],
            "neither the base domain (localhost) nor under it",
        ),
    ] {
        let error = parse("", environment).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
    let under = [("TENANTRY_BASE_DOMAIN", "example.com"), ("TENANTRY_PUBLIC_URL", "https://www.example.com")];
    assert_eq!(from_environment(&under).public_url().as_str(), "https://www.example.com/");
}

#[test]
fn with_a_database_url_serve_wants_a_master_key_and_a_way_for_mails() {
    let error = refusal(&[DATABASE]);
    assert!(error.contains("TENANTRY_MASTER_KEY (not set)"), "{error}");
    assert!(error.contains("TENANTRY_SMTP_URL (not set)") && error.contains("TENANTRY_MAIL=file"), "{error}");
    assert!(from_environment(&[DATABASE]).validate_for_database().is_err());

    let key = ("TENANTRY_MASTER_KEY", KEY);
    let config = from_environment(&[DATABASE, key, ("TENANTRY_MAIL", "file")]);
    config.validate_for_serve().unwrap();
    assert!(!config.is_development());

    let smtp = ("TENANTRY_SMTP_URL", "smtps://u:p@mail.example.com");
    assert!(refusal(&[DATABASE, key, smtp]).contains("TENANTRY_MAIL_FROM"));
    let config = from_environment(&[DATABASE, key, smtp, ("TENANTRY_MAIL_FROM", "Acme <a@b.c>")]);
    config.validate_for_serve().unwrap();
    assert!(matches!(config.mail(), Mail::Smtp(_)));
    let Database::External { url, direct_url } = config.database() else {
        panic!("the database is external")
    };
    assert_eq!(url.expose(), DATABASE.1);
    assert_eq!(direct_url.expose(), DATABASE.1);
}

#[test]
fn mails_never_cross_the_network_in_clear() {
    let from = ("TENANTRY_MAIL_FROM", "a@b.c");
    assert!(refusal(&[("TENANTRY_SMTP_URL", "smtp://mail.example.com"), from]).contains("unencrypted"));
    for url in ["smtp://localhost:1025", "smtp://mail.example.com?tls=required"] {
        from_environment(&[("TENANTRY_SMTP_URL", url), from]).validate_for_serve().unwrap();
    }
}

#[test]
fn development_ends_where_other_machines_can_listen() {
    let listen = ("TENANTRY_LISTEN", "0.0.0.0:8080");
    assert!(!from_environment(&[listen]).is_development());
    assert!(refusal(&[listen]).contains("that other machines reach"));
    from_environment(&[listen, ("TENANTRY_MAIL", "file")]).validate_for_serve().unwrap();
    assert!(refusal(&[("TENANTRY_MAIL", "smtp")]).contains("no mail server"));
}

#[test]
fn a_derived_public_url_follows_the_port_that_was_bound() {
    let bound = "127.0.0.1:4711".parse().unwrap();
    let any_port = ("TENANTRY_LISTEN", "127.0.0.1:0");
    assert_eq!(from_environment(&[any_port]).listening_on(bound).public_url().port(), Some(4711));

    let given = [any_port, ("TENANTRY_PUBLIC_URL", "http://localhost:9")];
    assert_eq!(from_environment(&given).listening_on(bound).public_url().port(), Some(9));
}

#[test]
fn debug_output_holds_no_secret() {
    let config = from_environment(&[
        DATABASE,
        ("TENANTRY_MASTER_KEY", KEY),
        ("TENANTRY_SMTP_URL", "smtps://u:s3cret@mail.example.com"),
    ]);
    let debug = format!("{config:?}");
    assert!(!debug.contains("s3cret") && !debug.contains(KEY), "{debug}");
}

#[test]
fn people_can_read_the_table() {
    insta::assert_snapshot!(settings_help());
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = settings_markdown();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(include_str!("../../README.md").contains(&table), "README.md should have this table:\n\n{table}");
}

#[test]
fn deploy_names_only_settings_that_there_are() {
    let known: Vec<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")];
    let (mut named, mut unknown) = (0, Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (_, rest) in text.match_indices("TENANTRY_").map(|(at, _)| text.split_at(at)) {
                let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len());
                let name = &rest[..end];
                named += 1;
                // `TENANTRY_…` means any of them.
                if name != "TENANTRY_" && !known.iter().any(|known| known == name) {
                    unknown.push(format!("{} in {}", name, path.display()));
                }
            }
        }
    }
    assert!(named > 50, "only {named} settings are named");
    assert!(unknown.is_empty(), "{unknown:#?}");
}
