//! The unix socket: its owner's alone, and one daemon's.

use ledger_server::http::bind_unix;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = super::private_dir();
    let path = dir.path().join("api.sock");
    let live = bind_unix(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(bind_unix(&path).unwrap_err().code(), "server.listen");
    drop(live);
    assert!(path.exists(), "a crash leaves the file");
    drop(bind_unix(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not a socket").unwrap();
    assert_eq!(bind_unix(&path).unwrap_err().code(), "server.listen");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
}

#[tokio::test]
async fn a_directory_that_others_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        bind_unix(&dir.path().join("api.sock")).unwrap_err().code(),
        "server.listen"
    );
}
