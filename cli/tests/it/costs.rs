//! What runs cost, on the real daemon: measured by us, tokens and money as the handler says, summed of all attempts.

use crate::{Daemon, bad, folder, good, json};
use serde_json::Value;

#[test]
fn failed_attempts_cost_too_and_currencies_are_summed_apart() {
    let root = folder();
    let dir = root.path();
    good(dir, &["init", "--machine", "mini"]);
    let before = std::fs::read_to_string(dir.join("config.toml")).unwrap_or_default();
    // Fails in its first attempt, succeeds in its second.
    let script = "printf 'cost tokens 12\\ncost usd_micros 2000000\\ncost eur_micros 1500000\\n' >> $LEDGER_REPORT; \
                  test -e ../../../again || { touch ../../../again; exit 1; }; echo 42";
    let script = script.replace("../../../again", &dir.join("again").display().to_string());
    let handler = format!(
        "[verify]\nenabled = false\n[[handler]]\nname = \"ask\"\nargv = [\"sh\", \"-c\", {}]\nclass = \"light\"\n",
        serde_json::to_string(&script).unwrap()
    );
    std::fs::write(dir.join("config.toml"), before + &handler).unwrap();
    let daemon = Daemon::start(dir, "gateway");
    let (status, envelope) = json(
        dir,
        &[
            "submit",
            "ask",
            "--attempts",
            "2",
            "--project",
            "site",
            "--wait",
            "--timeout",
            "50s",
        ],
    );
    assert_eq!(status, 0, "{envelope}");
    let told = good(dir, &["costs", "--by", "project", "--since", "1d"]);
    let group = &told["groups"][0];
    assert_eq!(group["group"], "site");
    assert_eq!(group["by_outcome"]["failed"]["runs"], 1);
    assert_eq!(group["by_outcome"]["succeeded"]["runs"], 1);
    assert_eq!(group["all"]["tokens"], 24);
    let money = &group["all"]["money_micros"];
    assert_eq!(
        (&money["USD"], &money["EUR"]),
        (&Value::from(4_000_000), &Value::from(3_000_000))
    );
    assert!(
        group["all"]["peak_memory_bytes"].as_u64().unwrap() > 0,
        "measured"
    );
    for by in ["handler", "machine", "day"] {
        let same = good(dir, &["costs", "--by", by]);
        assert_eq!(same["total"], told["total"], "{by}");
    }
    let later = good(dir, &["costs", "--until", "2020-01-01"]);
    assert_eq!(later["total"]["runs"], 0);
    bad(dir, &["costs", "--since", "sometime"], "time.malformed", 2);
    daemon.stop();
}
