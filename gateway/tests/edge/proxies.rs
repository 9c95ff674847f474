//! The proxies nginx and `HAProxy` in front of the gateway, with the configurations of docs/PROXIES.md.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use roost_client::{Client, Credentials, harness::Gateway, send_to};
use roost_proto::codec::Encoding;
use tempfile::TempDir;
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use super::{admission, raw};

const ALICE: u64 = 1001;
const BOB: u64 = 1002;
const START_S_MAX: u64 = 20;

/// A section of the page: how the gateway is started, and the proxy's configuration.
struct Section {
    flags: Vec<String>,
    language: String,
    config: String,
}

fn section(title: &str) -> Section {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROXIES.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, rest) = page.split_once(&format!("\n## {title}\n")).expect("its section");
    let section = rest.split("\n## ").next().expect("up to the next");
    let command = section.split('`').nth(1).expect("a command");
    let flags = command.split_whitespace().skip(1).map(str::to_owned).collect();
    let (_, block) = section.split_once("\n```").expect("a configuration");
    let (language, block) = block.split_once('\n').expect("its language");
    let config = block.split("\n```").next().expect("its end").to_owned() + "\n";
    Section { flags, language: language.to_owned(), config }
}

/// A proxy process; killed when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts what a section describes in front of `gateway`, with the ports that are free here.
    fn start(section: &Section, gateway: &Gateway) -> Self {
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let mut config = section.config.clone();
        for (documented, here) in [
            ("bind :80\n", format!("bind {address}\n")),
            ("listen 80;", format!("listen {address};")),
            ("127.0.0.1:9000", gateway.ws.to_string()),
            ("127.0.0.1:9080", gateway.http.to_string()),
        ] {
            config = config.replace(documented, &here);
        }
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("proxy.conf");
        fs::write(&file, config).expect("written");
        let mut command = match section.language.as_str() {
            "haproxy" => {
                let mut haproxy = Command::new("haproxy");
                haproxy.arg("-db").arg("-f").arg(&file);
                haproxy
            }
            "nginx" => {
                let mut nginx = Command::new("/usr/sbin/nginx");
                let alone = "daemon off; master_process off; pid nginx.pid;";
                nginx.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr", "-g", alone]);
                nginx
            }
            other => panic!("nobody runs {other}"),
        };
        let said = fs::File::create(folder.path().join("stderr")).expect("a file");
        let child = command
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("it runs; apt-get install -y haproxy nginx libnginx-mod-stream");
        let mut proxy = Self { child, address, folder };
        proxy.wait();
        proxy
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(START_S_MAX);
        while let Err(error) = TcpStream::connect(self.address) {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none() && Instant::now() < deadline, "{error}: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sessions through a proxy; `true`: the gateway knows whose they are.
fn scenario(title: &str, knows: bool) -> (Gateway, Proxy) {
    let section = section(title);
    let root = TempDir::new().expect("a folder");
    admission::pressure(root.path(), 0);
    let flags = section.flags.iter().map(String::as_str);
    let flags = flags.chain(["--system-root", root.path().to_str().expect("UTF-8")]);
    let gateway = Gateway::start(&flags.collect::<Vec<_>>()).expect("it starts");
    let proxy = Proxy::start(&section, &gateway);
    let session = |user, encoding| {
        let token = Credentials::Bearer(gateway.token(user, 1).expect("a token"));
        Client::connect(proxy.address, encoding, &token)
            .unwrap_or_else(|error| panic!("{error:#}; {}", proxy.said()))
    };
    let (mut alice, welcome) = session(ALICE, Encoding::Json);
    let (mut bob, _) = session(BOB, Encoding::Proto);
    let large = vec![7; welcome.payload_bytes_max as usize];
    for (number, payload) in [(1, &b"hello"[..]), (2, &large), (3, b"")] {
        let id = alice.ask(send_to(BOB, &[number], payload)).expect("sent");
        alice.answer(id).expect("answered");
        assert_eq!(bob.message().expect("delivered").1.payload, *payload);
    }
    assert_eq!(told(&gateway, &section).contains(&own_address(&mut alice)), knows);

    alice.socket().close(Some(CloseFrame { code: CloseCode::Away, reason: "bye".into() })).expect("sent");
    let end = alice.receive().expect_err("the gateway's answer").to_string();
    assert!(end.contains("1001"), "{end}");
    let refused = raw::ask(proxy.address, &raw::upgrade("/v1/ws", ""));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert_told_to_come_back(&proxy, root.path());
    (gateway, proxy)
}

/// The 503 of a gateway near its limits reaches the client whole, and those inside are left alone.
fn assert_told_to_come_back(proxy: &Proxy, root: &Path) {
    admission::pressure(root, 100);
    let deadline = Instant::now() + Duration::from_secs(raw::ANSWER_S_MAX);
    loop {
        let answer = raw::ask(proxy.address, &raw::upgrade("/v1/ws", ""));
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
            return;
        }
        assert!(answer.starts_with("HTTP/1.1 401 ") && Instant::now() < deadline, "{answer}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn own_address(client: &mut Client) -> String {
    client.socket().get_mut().local_addr().expect("bound").to_string()
}

/// What operators are told of Alice; straight from the gateway, with a header where it wants one.
fn told(gateway: &Gateway, section: &Section) -> String {
    let token = fs::read_to_string(gateway.data().join("operator-token")).expect("a token");
    let mut stream = raw::connect(gateway.http);
    if section.flags.iter().any(|flag| flag == "--http-proxy-protocol") {
        stream.write_all(b"PROXY UNKNOWN\r\n").expect("written");
    }
    let request = format!(
        "GET /debug/connections?user={ALICE} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"address\""), "{answer}");
    answer
}

fn get(proxy: &Proxy, path: &str) -> String {
    raw::ask(proxy.address, &format!("GET {path} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\n\r\n"))
}

/// The other paths lead to the HTTP service, and those of operators nowhere.
fn assert_pages(proxy: &Proxy) {
    for (path, status) in [
        ("/healthz", "200"),
        ("/", "200"),
        ("/metrics", "403"),
        ("/debug/connections", "403"),
        ("/admin", "403"),
    ] {
        let answer = get(proxy, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

#[test]
fn haproxy_over_http_tells_whose_each_session_is() {
    let (_gateway, proxy) = scenario("HAProxy, HTTP", true);
    assert_pages(&proxy);
}

#[test]
fn haproxy_over_tcp_tells_whose_each_session_is() {
    let (gateway, _proxy) = scenario("HAProxy, TCP", true);
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    let refused = metrics.lines().filter(|line| line.starts_with("roost_proxy_headers_refused_total"));
    // Its checks are good connections: the command LOCAL, and the end.
    assert!(refused.clone().count() > 0 && refused.clone().all(|line| line.ends_with(" 0")), "{metrics}");
}

#[test]
fn nginx_over_http_passes_sessions_on_and_is_their_address() {
    let (_gateway, proxy) = scenario("nginx, HTTP", false);
    assert_pages(&proxy);
}

#[test]
fn nginx_over_tcp_tells_whose_each_session_is() {
    scenario("nginx, TCP", true);
}
