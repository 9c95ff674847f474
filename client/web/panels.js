// What the operators' page shows, from the last readings: each function makes rows or numbers, and admin.js draws them.

import { bytes, count, duration, percent, quantile, rate } from './figures.js';

/** Seconds over which latencies are told: fewer would be of too few messages. */
const LATENCY_S = 10;
/** With fewer, what does not grow with connections would be told as theirs. */
const MEMORY_CONNECTIONS = 1000;

/** The reading to compare the last one with for latencies. */
function earlier(readings) {
  const now = readings.at(-1);
  return readings.find((reading) => now.at - reading.at <= LATENCY_S * 1000 + 500) ?? now;
}

/** The tiles: name, number, a line below it, the value for its curve, and how bad it is. */
export function tiles(readings) {
  const now = readings.at(-1);
  const before = readings.at(-2);
  const since = readings.length > 1 ? earlier(readings) : undefined;
  const per = (name) => rate(before, now, name);
  const connections = now.sum('roost_connections');
  const most = now.sum('roost_connections_max');
  const send = (share) => quantile(since, now, 'roost_send_seconds', share);
  const commit = (share) => quantile(since, now, 'roost_router_commit_seconds', share);
  const kernel = now.sum('roost_connection_kernel_bytes');
  const user = now.sum('roost_connection_user_bytes');
  const [free, disk] = [now.sum('roost_store_free_bytes'), now.sum('roost_store_disk_bytes')];
  const enough = connections >= MEMORY_CONNECTIONS;
  const cpu = per('process_cpu_seconds_total');
  const stalled = (resource) => (before ? stall(before, now, resource) : 0);
  const memory = stalled('memory');
  return [
    tile('connections', 'Connections', count(connections), `of ${count(most)} · ${count(now.sum('roost_router_sessions'))} sessions`, connections, level(connections / most, 0.9, 0.99)),
    tile('accepted', 'Connects a second', count(per('roost_upgraded_total')), `${count(per('roost_ended_total'))} ended`, per('roost_upgraded_total')),
    tile('messages', 'Messages received a second', count(per('roost_messages_received_total')), `${count(per('roost_router_messages_total'))} accepted`, per('roost_messages_received_total')),
    tile('frames', 'Frames sent a second', count(per('roost_frames_sent_total')), `${bytes(per('roost_received_bytes_total'))}/s in · ${bytes(per('roost_sent_bytes_total'))}/s out`, per('roost_frames_sent_total')),
    tile('send', 'Send to Sent, p99', duration(send(0.99)), `p50 ${duration(send(0.5))} · of the last ${LATENCY_S} s`, send(0.99) ?? 0),
    tile('commit', 'Commit, p99', duration(commit(0.99)), `p50 ${duration(commit(0.5))} · ${count(per('roost_router_batches_total'))} a second`, commit(0.99) ?? 0),
    tile('memory', 'Memory a connection', enough ? bytes(kernel + user) : '–', enough ? `kernel ${bytes(kernel)} · user ${bytes(user)}` : `told from ${MEMORY_CONNECTIONS} connections on`, enough ? kernel + user : 0),
    tile('resident', 'Resident memory', bytes(now.sum('process_resident_memory_bytes')), `stalled for memory ${percent(memory)}`, now.sum('process_resident_memory_bytes'), level(memory, 0.05, 0.2)),
    tile('cpu', 'Processor', `${cpu.toFixed(2)}`, `cores · stalled for it ${percent(stalled('cpu'))}`, cpu),
    tile('disk', 'Disk free', bytes(free), `of ${bytes(disk)} · stalled for it ${percent(stalled('io'))}`, free, disk > 0 ? level(1 - free / disk, 0.9, 0.97) : ''),
  ];
}

function stall(before, now, resource) {
  const some = (reading) => (reading.samples.get('roost_pressure_seconds_total') ?? []).find((sample) => sample.labels.resource === resource && sample.labels.stalled === 'some')?.value ?? 0;
  return Math.max(0, some(now) - some(before)) / ((now.at - before.at) / 1000);
}

function tile(id, name, value, more, number, bad = '') {
  return { id, name, value, more, number, level: bad };
}

function level(value, warn, bad) {
  if (value >= bad) return 'bad';
  return value >= warn ? 'warn' : '';
}

/** A table: its head, and its rows of cells; a cell is a text, or a text with a meter. */
export function shards(readings) {
  const now = readings.at(-1);
  const before = readings.at(-2);
  const rows = now.values('roost_connections', 'shard').map((shard) => {
    const of = (name) => now.sum(name, 'shard', shard);
    const per = (name) => rate(before, now, name, 'shard', shard);
    const load = before ? Math.min(1, Math.max(0, 1 - per('roost_asleep_seconds_total'))) : 0;
    return [
      shard,
      count(of('roost_connections')),
      { text: percent(load), share: load },
      count(per('roost_turns_total')),
      count(per('roost_completions_total')),
      count(per('roost_messages_received_total')),
      count(per('roost_frames_sent_total')),
      count(of('roost_rings')),
      `${count(of('roost_ring_descriptors'))} / ${count(of('roost_ring_descriptors_max'))}`,
      count(of('roost_read_buffers')),
      count(of('roost_read_waiting')),
      count(of('roost_provided_buffers')),
      count(of('roost_busy_connections')),
      count(of('roost_outboxes')),
      count(of('roost_mailbox_effects')),
      count(of('roost_backlog_requests')),
      bytes(of('roost_assembly_bytes')),
    ];
  });
  const head = ['Shard', 'Connections', 'Load', 'Turns/s', 'Completions/s', 'Messages/s', 'Frames/s', 'Rings', 'Descriptors', 'Read buffers', 'Waiting', 'Provided', 'Busy', 'Outboxes', 'Mailbox', 'Backlog', 'Partial input'];
  return { head, rows };
}

/** Router threads with their queues. */
export function threads(readings) {
  const now = readings.at(-1);
  const most = now.sum('roost_router_queue_requests_max');
  const rows = now.values('roost_router_queue_requests', 'thread').map((thread) => {
    const of = (name) => now.sum(name, 'thread', thread);
    const queued = of('roost_router_queue_requests');
    return [thread, count(of('roost_router_partitions')), { text: `${count(queued)} of ${count(most)}`, share: queued / most }, count(of('roost_router_effects_held'))];
  });
  return { head: ['Thread', 'Partitions', 'Queue', 'Effects held'], rows };
}

/** Sessions by partition. */
export function partitions(readings) {
  const now = readings.at(-1);
  return now.values('roost_router_partition_sessions', 'partition').map((partition) => [partition, count(now.sum('roost_router_partition_sessions', 'partition', partition))]);
}

/** What went wrong or was held back: since the start, and a second. */
export function ends(readings) {
  const now = readings.at(-1);
  const before = readings.at(-2);
  const rows = [];
  const add = (text, name, label, value) => {
    const total = now.sum(name, label, value);
    if (total > 0) rows.push([text, count(total), count(rate(before, now, name, label, value))]);
  };
  const each = (text, name, label) => now.values(name, label).forEach((value) => add(`${text} ${value}`, name, label, value));
  each('Upgrade refused:', 'roost_refused_total', 'status');
  each('Token refused:', 'roost_tokens_refused_total', 'reason');
  add('Handshake took too long', 'roost_handshakes_timed_out_total');
  each('Closed by the gateway:', 'roost_closed_total', 'code');
  each('Closed by its client:', 'roost_closed_by_peer_total', 'code');
  add('Peer gone without a word', 'roost_lost_total');
  add('Silent for too long', 'roost_reaped_total');
  each('Connection over its limit:', 'roost_rate_limited_total', 'kind');
  each('User over a limit:', 'roost_router_rate_limited_total', 'kind');
  add('Not read for a while', 'roost_paused_total');
  add('Waited for a read buffer', 'roost_read_buffers_exhausted_total');
  add('Router queue full', 'roost_router_full_total');
  add('Accept failed', 'roost_accept_errors_total');
  add('Store errors', 'roost_router_store_errors_total');
  add('Answered UNAVAILABLE', 'roost_router_unavailable_total');
  add('Corrupt events', 'roost_corrupt_events_total');
  return { head: ['What', 'Since the start', 'A second'], rows };
}

/** Connections of a user, as /debug/connections tells them. */
export function connections(found) {
  const now = Date.now() / 1000;
  const rows = found.connections.map((one) => [
    `${one.shard} · ${one.slot} · ${one.generation}`,
    String(one.device),
    one.address ?? 'not told',
    one.state + (one.busy ? ', busy' : '') + (one.paused ? ', paused' : ''),
    `${duration(Math.max(0, now - one.connectedAtS))} ago`,
    `${duration(one.silentS)}`,
    bytes(one.queuedBytes),
  ]);
  return { head: ['Shard · slot · generation', 'Device', 'Address', 'State', 'Connected', 'Silent for', 'Queued'], rows };
}
