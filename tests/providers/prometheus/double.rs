//! A server that answers like Prometheus, or as a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub form: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn query(&self) -> &str {
        &self.form["query"]
    }

    /// Start, end and step of a range.
    pub fn range(&self) -> Option<(i64, i64, i64)> {
        let number = |name: &str| self.form.get(name)?.parse().ok();
        Some((number("start")?, number("end")?, number("step")?))
    }
}

/// What is answered.
pub enum Reply {
    /// 200 and this body.
    Json(String),
    /// A status, one header and a body.
    Status(u16, &'static str, String),
    /// These bytes, and then the connection ends.
    Raw(Vec<u8>),
    /// These bytes, and then nothing.
    Stalls(Vec<u8>),
    /// A body that does not end.
    Endless,
}

impl Reply {
    /// The same with a word in place of another.
    pub fn replace(self, word: &str, by: &str) -> Self {
        match self {
            Self::Json(body) => Self::Json(body.replace(&format!("\"{word}\""), &format!("\"{by}\""))),
            other => other,
        }
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on loopback; it ends with this value.
pub struct Double {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    most_at_once: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Double {
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, most_at_once) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default());
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            asked: asked.clone(),
            at_once: AtomicUsize::new(0),
            most_at_once: most_at_once.clone(),
        });
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Self { address, asked, most_at_once, listening }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The most requests that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

struct Shared {
    answer: Box<Answer>,
    asked: Arc<Mutex<Vec<Asked>>>,
    at_once: AtomicUsize,
    most_at_once: Arc<AtomicUsize>,
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) {
        while let Some(asked) = read(&mut stream).await {
            self.most_at_once.fetch_max(self.at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            self.asked.lock().unwrap().push(asked.clone());
            tokio::time::sleep(Duration::from_millis(2)).await; // the time that a server takes
            let reply = (self.answer)(&asked);
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            if write(&mut stream, reply).await.is_none() {
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
    let length: usize = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    while bytes.len() < head + 4 + length {
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    }
    let form = form_urlencoded::parse(&bytes[head + 4..]).into_owned().collect();
    Some(Asked { path, form, headers })
}

/// Nothing when the connection is over.
async fn write(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    let bytes = match reply {
        Reply::Json(body) => http(200, "Content-Type: application/json", &body),
        Reply::Status(status, header, body) => http(status, header, &body),
        Reply::Raw(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            return None;
        }
        Reply::Stalls(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            // Until the client has had enough.
            while stream.read_buf(&mut Vec::new()).await.ok()? > 0 {}
            return None;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
            loop {
                stream.write_all(&chunk).await.ok()?;
            }
        }
    };
    stream.write_all(&bytes).await.ok()
}

pub fn http(status: u16, header: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Said\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An answer with these series: labels and either `value` or `values` as JSON.
pub fn success(series: &[String], more: &str) -> Reply {
    let result = series.join(",");
    Reply::Json(format!(
        "{{\"status\":\"success\"{more},\"data\":{{\"resultType\":\"matrix\",\"result\":[{result}]}}}}"
    ))
}

/// A pod's container, as `count` scrapes, a range or a peak, whichever is asked for; nothing of kube-state-metrics.
pub fn usual(asked: &Asked, pods: &[&str], more: &str) -> Reply {
    let query = asked.query();
    if query.contains("kube_") {
        return success(&[], more);
    }
    let value = match asked.range() {
        Some((start, end, step)) => {
            let value = if query.contains("rate(") { "0.25" } else { "1000000" };
            let (first, last) = (start, end);
            let points: Vec<_> = (first..=last)
                .step_by(usize::try_from(step).unwrap())
                .map(|at| format!("[{at},\"{value}\"]"))
                .collect();
            format!("\"values\":[{}]", points.join(","))
        }
        None if query.contains("count_over_time") => "\"value\":[0,\"40\"]".to_owned(),
        None => "\"value\":[0,\"1500000\"]".to_owned(),
    };
    let series = |pod: &&str| format!("{{\"metric\":{{\"pod\":\"{pod}\",\"container\":\"app\"}},{value}}}");
    success(&pods.iter().map(series).collect::<Vec<_>>(), more)
}
