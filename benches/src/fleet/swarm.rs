//! A thousand machines that beat: each has keys and logs of its own and is enrolled like any other, but keeps nothing on disk.
//!
//! Each sends, once in a period, what a machine sends while nothing happens: a push with one sealed heartbeat and a signed beat. They
//! share connections. Their long polls are not part of it.

use super::child::Process;
use crate::Failed;
use ledger::clock::{Clock, Entropy, SystemClock, SystemEntropy, unix_ms};
use ledger::core::digest::log_id;
use ledger::core::kinds::{KeyJoined, LogGenesis, NodePulse2, Role};
use ledger::core::signature::{Signature, sign_join, sign_seal};
use ledger::core::{
    Draft, FleetId, Hlc, LogId, MachineId, PublicKey, ReceiptId, Record, Seal, SealDigest, SigningKey,
    Stream, Subject,
};
use ledger_server::client::Signed;
use ledger_server::exchange::{
    Beat, BeatAnswer, Join, JoinAnswer, MEDIA, Push, PushAnswer, Raw, decode, encode,
};
use ledger_server::http::signature::{
    NONCE_BYTES, SKEW_S, Window, sign_request, verify_base, verify_response,
};
use ledger_server::http::wire::Boot;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests that are open at a time.
const OPEN_MAX: usize = 16;
/// How long an exchange may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Invitations that are asked for at a time.
const INVITED_AT_ONCE: usize = 50;

/// What it did to the gateway.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Beaten {
    /// Machines.
    pub machines: usize,
    /// Cores of CPU that the gateway used; nothing where the system does not tell.
    pub cores: Option<f64>,
    /// Memory of the gateway at the end, MiB.
    pub memory_mib: Option<f64>,
    /// Memory before the machines came, MiB.
    pub before_mib: Option<f64>,
    /// Receipts that came in, in a second.
    pub receipts_s: f64,
    /// Requests in a second.
    pub requests_s: f64,
    /// The slowest exchange, milliseconds.
    pub slowest_ms: f64,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemEntropy.fill(&mut bytes);
    bytes
}

/// The newest seal of a log that is nowhere but here.
struct Log {
    key: Arc<SigningKey>,
    fleet: FleetId,
    id: LogId,
    seq: u64,
    last: SealDigest,
    time: Hlc,
}

impl Log {
    fn begin(
        key: &Arc<SigningKey>,
        fleet: FleetId,
        machine: &MachineId,
        stream: Stream,
    ) -> Result<(Self, Record), Failed> {
        let detail = LogGenesis {
            machine: machine.clone(),
            stream,
            incarnation: 1,
            machine_key: key.public(),
            checkpoint_key: SigningKey::from_seed(random()).public(),
            predecessor: None,
            founding: None,
            nonce: random(),
        };
        let draft = Draft::of(&detail, Subject::new(&format!("node/{machine}"))?);
        let mut log = Self {
            key: Arc::clone(key),
            fleet,
            id: LogId([0; 32]),
            seq: 0,
            last: SealDigest::ZERO,
            time: Hlc::default(),
        };
        let record = log.seal(draft, [0; 32])?;
        Ok((log, record))
    }

    fn seal(&mut self, draft: Draft, salt: [u8; 32]) -> Result<Record, Failed> {
        let now_us = SystemClock.now_us();
        let id = ReceiptId::v7(unix_ms(now_us), random());
        let said = draft.into_statement(self.fleet, self.key.public(), id, now_us, salt)?;
        if self.seq == 0 {
            self.id = log_id(&said.bytes);
        }
        self.time = self.time.tick(unix_ms(now_us));
        let seal = Seal {
            version: 1,
            log: self.id,
            seq: self.seq,
            prev: self.last,
            time: self.time,
            statement: said.digest,
        };
        self.seq += 1;
        self.last = seal.digest();
        let signed = sign_seal(&self.key, &self.last);
        Ok(Record::assemble(said.statement, &said.bytes, None, seal, signed))
    }
}

/// The way to the gateway that all of them share.
struct Way {
    client: reqwest::Client,
    base: String,
    boot: String,
    gateway: PublicKey,
}

impl Way {
    async fn exchange<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        key: &SigningKey,
        op: &'static str,
        body: Vec<u8>,
    ) -> Result<A, Failed> {
        let request = http::Request::post(format!("{}/v1/fleet/{op}", self.base))
            .header(http::header::CONTENT_TYPE, MEDIA)
            .body(body)?;
        let (mut parts, body) = request.into_parts();
        let authority = self.base.trim_start_matches("http://");
        let now_s = || SystemClock.now_us().div_euclid(1_000_000);
        let nonce: [u8; NONCE_BYTES] = random();
        let signature = sign_request(key, &mut parts, authority, &body, &self.boot, now_s(), nonce)?;
        let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))?;
        let answer = self.client.execute(request).await?;
        let (status, headers, body) = (answer.status(), answer.headers().clone(), answer.bytes().await?);
        let window = Window {
            now_s: now_s(),
            skew_s: SKEW_S,
        };
        verify_response(
            status,
            &headers,
            &body,
            &signature,
            &self.gateway.0,
            window,
            verify_base,
        )?;
        if !status.is_success() {
            return Err(format!("{op}: {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(decode(op, &body)?)
    }
}

struct Member {
    machine: MachineId,
    key: Arc<SigningKey>,
    pulse: Log,
}

impl Member {
    // Enters with what the invitation's line holds.
    async fn join(way: &Signed, name: &str, line: &str) -> Result<(Self, PublicKey), Failed> {
        let code = line.rsplit('/').next().ok_or("a line ends with the code")?;
        let bytes = (0..code.len() / 2).map(|n| u8::from_str_radix(&code[2 * n..2 * n + 2], 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        let code: [u8; 16] = bytes.try_into().map_err(|_| "a code has 16 bytes")?;
        let look = way.exchange("join", encode(&Join::Look { code }), WITHIN).await?;
        let answer: JoinAnswer = decode("join", &look)?;
        let machine = MachineId::new(name)?;
        let key = Arc::new(SigningKey::from_seed(random()));
        let actor = SigningKey::from_seed(random());
        let begun = [Stream::Work, Stream::Facts, Stream::Pulse]
            .map(|stream| Log::begin(&key, answer.fleet, &machine, stream));
        let [work, facts, pulse] = begun;
        let ((work, work_genesis), (facts, facts_genesis), (pulse, pulse_genesis)) = (work?, facts?, pulse?);
        let mut joined = KeyJoined {
            invitation: answer.invitation,
            machine: machine.clone(),
            role: Role::Node,
            machine_key: key.public(),
            witness_key: SigningKey::from_seed(random()).public(),
            actor_key: actor.public(),
            logs: [work.id, facts.id, pulse.id],
            machine_proof: Signature([0; 64]),
            actor_proof: Signature([0; 64]),
        };
        let digest = joined.proof_digest();
        joined.machine_proof = sign_join(&key, &digest);
        joined.actor_proof = sign_join(&actor, &digest);
        let genesis = [work_genesis, facts_genesis, pulse_genesis];
        let enter = Join::Enter {
            code,
            joined: Box::new(joined),
            genesis: genesis.iter().map(|record| record.bytes().to_vec()).collect(),
        };
        let entered: JoinAnswer = decode("join", &way.exchange("join", encode(&enter), WITHIN).await?)?;
        Ok((Self { machine, key, pulse }, entered.gateway_key))
    }

    // One heartbeat and one beat.
    async fn beat(&mut self, way: &Way) -> Result<f64, Failed> {
        let gauges = NodePulse2 {
            cpu_per_mille: 120,
            load1_centi: 80,
            memory_used_bytes: 5 << 30,
            memory_total_bytes: 16 << 30,
            disk_free_bytes: 100 << 30,
            disk_total_bytes: 500 << 30,
            uptime_s: self.pulse.seq,
            temperature_milli_c: Some(48_000),
            slots_used: 0,
            slots_total: 4,
            outbox_receipts: 0,
            outbox_oldest: None,
            clock_offset_ms: Some(3),
            boot: None,
            version: "bench".into(),
            services: Vec::new(),
        };
        let draft = Draft::of(&gauges, Subject::new(&format!("node/{}", self.machine))?);
        let record = self.pulse.seal(draft, random())?;
        let push = Push {
            process: [0; 16],
            log: self.pulse.id,
            records: vec![Raw {
                record: record.bytes().to_vec(),
                payload: None,
            }],
        };
        let before = Instant::now();
        let pushed: PushAnswer = way.exchange(&self.key, "push", encode(&push)).await?;
        if pushed.mark.seal != self.pulse.last {
            return Err("the gateway's mark is what was pushed".into());
        }
        let slowest = before.elapsed();
        let before = Instant::now();
        let beat = Beat { fences: Vec::new() };
        let _: BeatAnswer = way.exchange(&self.key, "beat", encode(&beat)).await?;
        Ok(slowest.max(before.elapsed()).as_secs_f64() * 1e3)
    }
}

/// Enrols so many machines at a gateway and has each beat once in every period, evenly spread, for some periods.
///
/// # Errors
/// What the gateway says to any of them.
pub async fn run(
    gateway: &mut Process,
    machines: usize,
    period: Duration,
    periods: u32,
) -> Result<Beaten, Failed> {
    let address = gateway.first.first().ok_or("a gateway has an address")?.clone();
    let before_mib = gateway.memory_mib();
    let stranger = Arc::new(SigningKey::from_seed(random()));
    let door = Signed::new(&address, stranger, None)?;
    let names: Vec<String> = (0..machines).map(|n| format!("m{n}")).collect();
    let mut members = Vec::new();
    let mut gateway_key = None;
    for names in names.chunks(INVITED_AT_ONCE) {
        let lines = gateway.ask(&format!("invite {}", names.join(" ")))?;
        for (name, line) in names.iter().zip(lines) {
            let (member, key) = Member::join(&door, name, &line).await?;
            members.push(member);
            gateway_key = Some(key);
        }
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let boot = client
        .get(format!("{address}/v1/boot"))
        .send()
        .await?
        .bytes()
        .await?;
    let Boot { boot } = serde_json::from_slice(&boot)?;
    let way = Arc::new(Way {
        client,
        base: address,
        boot,
        gateway: gateway_key.ok_or("there is a machine")?,
    });
    let step = period / u32::try_from(machines)?;
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    let receipts =
        |told: Vec<String>| -> Result<u32, Failed> { Ok(told.first().ok_or("a number")?.parse()?) };
    let (had, began, cpu) = (receipts(gateway.ask("counts")?)?, Instant::now(), gateway.cpu_s());
    let mut slowest_ms: f64 = 0.0;
    let mut ticks = tokio::time::interval(step);
    for _ in 0..periods {
        let mut beating = JoinSet::new();
        for mut member in members.drain(..) {
            ticks.tick().await;
            let (way, place) = (Arc::clone(&way), Arc::clone(&open).acquire_owned().await?);
            beating.spawn(async move {
                let took = member.beat(&way).await;
                drop(place);
                took.map(|ms| (member, ms))
            });
        }
        while let Some(beaten) = beating.join_next().await {
            let (member, ms) = beaten??;
            members.push(member);
            slowest_ms = slowest_ms.max(ms);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let used = gateway.cpu_s().zip(cpu).map(|(now, then)| (now - then) / seconds);
    let came = receipts(gateway.ask("counts")?)? - had;
    Ok(Beaten {
        machines,
        cores: used,
        memory_mib: gateway.memory_mib(),
        before_mib,
        receipts_s: f64::from(came) / seconds,
        requests_s: 2.0 * crate::measure::number(machines) * f64::from(periods) / seconds,
        slowest_ms,
    })
}
