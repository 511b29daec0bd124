//! Parsers for the kernel's text files: bytes in, figures or `None` out, never a panic.

use std::time::Duration;

use super::Load;

/// Sum over all cores, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    pub(crate) busy_ticks: u64,
    pub(crate) idle_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuStat {
    pub(crate) times: CpuTimes,
    pub(crate) cores: u16,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total_bytes: Option<u64>,
    pub(crate) available_bytes: Option<u64>,
}

/// Sum over all interfaces that lead out of the board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NetworkTotals {
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

/// Interfaces that carry what another one carries too, or that never leave the board.
const INNER_INTERFACES: [&[u8]; 7] =
    [b"veth", b"podman", b"docker", b"cni", b"br-", b"virbr", b"dummy"];

impl CpuTimes {
    /// Busy share since `before`, or `None` if no time went by. A counter that went back (some
    /// kernels let iowait do so) counts as no progress.
    pub(crate) fn busy_basis_points_since(self, before: Self) -> Option<u16> {
        let busy = u128::from(self.busy_ticks.saturating_sub(before.busy_ticks));
        let idle = u128::from(self.idle_ticks.saturating_sub(before.idle_ticks));
        let points = (busy * 10_000).checked_div(busy + idle)?;
        u16::try_from(points).ok()
    }
}

impl NetworkTotals {
    /// Received and sent per second since `before`, or `None` if no time went by or an interface
    /// left and took its counters along.
    pub(crate) fn bytes_per_s_since(self, before: Self, time: Duration) -> Option<(u64, u64)> {
        let rate = |now: u64, then: u64| {
            let bytes = u128::from(now.checked_sub(then)?);
            u64::try_from((bytes * 1_000_000).checked_div(time.as_micros())?).ok()
        };
        Some((rate(self.rx_bytes, before.rx_bytes)?, rate(self.tx_bytes, before.tx_bytes)?))
    }
}

/// `/proc/stat`: the `cpu` line, and how many `cpuN` lines follow it.
pub(crate) fn cpu(text: &[u8]) -> Option<CpuStat> {
    let mut lines = lines(text);
    let mut words = words(lines.next()?);
    if words.next()? != b"cpu" {
        return None;
    }
    // user nice system idle iowait irq softirq steal; guest time is in user already
    let mut ticks = [0; 8];
    for (place, tick) in ticks.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *tick = number(word)?,
            None if place >= 4 => break,
            None => return None,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
    let busy = [user, nice, system, irq, softirq, steal];
    let busy_ticks = busy.into_iter().try_fold(0_u64, u64::checked_add)?;
    let cores = lines.take_while(|line| line.starts_with(b"cpu")).count();
    Some(CpuStat {
        times: CpuTimes { busy_ticks, idle_ticks: idle.checked_add(iowait)? },
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
    })
}

/// `/proc/meminfo`. Kernels before 3.14 have no `MemAvailable`: free and cached stand in.
pub(crate) fn memory(text: &[u8]) -> Memory {
    let (mut total, mut available, mut free, mut cached) = (None, None, None, None);
    for line in lines(text) {
        let mut words = words(line);
        let place = match words.next() {
            Some(b"MemTotal:") => &mut total,
            Some(b"MemAvailable:") => &mut available,
            Some(b"MemFree:") => &mut free,
            Some(b"Cached:") => &mut cached,
            _ => continue,
        };
        let kibibytes = words.next().and_then(number);
        *place = kibibytes.and_then(|k| k.checked_mul(1024));
        if total.is_some() && available.is_some() {
            break;
        }
    }
    let stand_in =
        || free.zip(cached).and_then(|(free, cached): (u64, u64)| free.checked_add(cached));
    Memory { total_bytes: total, available_bytes: available.or_else(stand_in) }
}

/// `/proc/loadavg`.
pub(crate) fn load(text: &[u8]) -> Option<Load> {
    let mut words = words(text);
    let mut next = || u32::try_from(hundredths(words.next()?)?).ok();
    Some(Load {
        one_minute_x100: next()?,
        five_minutes_x100: next()?,
        fifteen_minutes_x100: next()?,
    })
}

/// `/proc/uptime`, whole seconds.
pub(crate) fn uptime_s(text: &[u8]) -> Option<u64> {
    Some(hundredths(words(text).next()?)? / 100)
}

/// When a process was started, in whole seconds since the kernel was, of `/proc/PID/stat`.
pub(crate) fn started_s(text: &[u8]) -> Option<u64> {
    // the name in parentheses may hold anything, so count from its end
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let ticks = number(words(text.get(end + 1..)?).nth(19)?)?;
    ticks.checked_div(rustix::param::clock_ticks_per_second())
}

/// `/proc/net/dev`. A line that makes no sense is left out; no line at all is `None`.
pub(crate) fn network(text: &[u8]) -> Option<NetworkTotals> {
    let mut totals = None;
    for line in lines(text) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, rest) = line.split_at(colon);
        let name = name.trim_ascii();
        let totals = totals.get_or_insert_with(NetworkTotals::default);
        if name == b"lo" || INNER_INTERFACES.iter().any(|inner| name.starts_with(inner)) {
            continue;
        }
        let mut words = words(rest.get(1..).unwrap_or_default());
        let rx = words.next().and_then(number);
        let tx = words.nth(7).and_then(number); // eight figures for receiving come first
        let (Some(rx), Some(tx)) = (rx, tx) else { continue };
        totals.rx_bytes = totals.rx_bytes.saturating_add(rx);
        totals.tx_bytes = totals.tx_bytes.saturating_add(tx);
    }
    totals
}

/// A `temp` or `temp1_input` file: thousandths of a degree Celsius. What no board survives (a
/// sensor without power often says -274000 or 255000) is `None`.
pub(crate) fn millidegrees(text: &[u8]) -> Option<i32> {
    let text = text.trim_ascii();
    let value = match text.strip_prefix(b"-") {
        Some(digits) => -i64::try_from(number(digits)?).ok()?,
        None => i64::try_from(number(text)?).ok()?,
    };
    i32::try_from(value).ok().filter(|value| (-100_000..=200_000).contains(value))
}

/// The first line as text, for files such as `hostname` or `type`. At most 256 bytes.
pub(crate) fn first_line(text: &[u8]) -> Option<String> {
    let line = lines(text).next()?.trim_ascii();
    let line = std::str::from_utf8(line.get(..line.len().min(256))?).ok()?;
    (!line.is_empty()).then(|| line.to_owned())
}

/// One value of an `os-release` file, without its quotes.
pub(crate) fn os_release_value(text: &[u8], key: &str) -> Option<String> {
    let value = lines(text)
        .find_map(|line| line.trim_ascii().strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
    let value = std::str::from_utf8(value).ok()?.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)));
    let value = unquoted.unwrap_or(value);
    (!value.is_empty()).then(|| value.chars().take(256).collect())
}

/// Decimal digits and nothing else.
pub(crate) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
}

pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// `12.3456` is 1234: what is beyond hundredths is cut off.
fn hundredths(word: &[u8]) -> Option<u64> {
    let point = word.iter().position(|&byte| byte == b'.').unwrap_or(word.len());
    let (whole, fraction) = word.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let digit = |place: usize| match fraction.get(place) {
        Some(byte) => number(std::slice::from_ref(byte)),
        None => Some(0),
    };
    number(whole)?.checked_mul(100)?.checked_add(digit(0)? * 10 + digit(1)?)
}
