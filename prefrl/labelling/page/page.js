"use strict";
// Two looping clips, a key press, the next two at once. Answers go out one after the other from a list that outlives a
// lost connection and a reload; the server takes each once, however often it is sent.

const AHEAD = 3; // pairs held, the one on screen included
const SPEEDS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3];
const PAUSE = 300; // ms between the end of the clips and their next round
const STATUS_EVERY = 3000; // ms
const EMPTY_EVERY = 700;
const KEEP_EVERY = 30000; // ms; a query that nobody looks at any longer goes to somebody else
const RELOAD = 1000;
const TRIES = 3; // to load a clip
const LOST = /^(No connection|The page was closed)/;
const RETRY = [500, 1000, 2000, 5000, 10000];

const $ = (id) => document.getElementById(id);
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "equal", ArrowDown: "cant_tell", s: "skip", S: "skip",
};
const WORDS = {left: "left", right: "right", equal: "equal", cant_tell: "can’t tell", skip: "skipped"};

let status = null;
let pairs = []; // the one on screen first; each {lease, clips, undo, element, videos}
let onScreen = null;
let shownAt = null; // when both clips of the pair on screen played
let viewedMs = 0; // of the pair on screen, up to viewedSince
let viewedSince = null;
let replays = 0;
let rounds = null; // timer of the next round
let pressedAt = null;
let speed = Number(localStorage.getItem("prefrl-speed")) || 1;
let outbox = [];
let kept = null; // how the names begin under which the browser keeps this page's answers, until they are sent
let sending = null; // resolves once nothing waits any longer
let undoing = Promise.resolve();
let undos = 0; // asked for and not shown yet
let failures = 0;
let filling = false;
let refused = false;
const done = new Set(); // leases that are answered
const answeredAt = []; // of this session, for the rate

// -- The server

async function ask(path, message) {
  const options = message === undefined ? {} : {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(message),
  };
  const response = await fetch(path, {...options, signal: AbortSignal.timeout(15000)});
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(body.error || body.detail || `the server says ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return body;
}

// Each under a name of its own, as other tabs keep theirs in the same place; and with the page's, as a run that was
// served at this address before has leases of the same numbers.
function keep(said) {
  try {
    localStorage.setItem(kept + said.lease, JSON.stringify(said));
  } catch {
    notice("This browser keeps nothing: answers that wait for a connection are lost when the page is closed.");
  }
}

function recover() {
  for (const name of Object.keys(localStorage)) {
    if (!name.startsWith(kept)) continue;
    try {
      const said = JSON.parse(localStorage.getItem(name));
      if (!Number.isInteger(said.lease)) throw new Error("none of ours");
      outbox.push(said);
      done.add(said.lease);
    } catch {
      localStorage.removeItem(name); // written by something else
    }
  }
  outbox.sort((one, other) => one.pressed - other.pressed);
}

function send() {
  if (!sending && outbox.length && status?.name && !refused) sending = deliver().finally(() => { sending = null; });
  return sending || Promise.resolve();
}

async function deliver() {
  while (outbox.length) {
    const {pressed, page, ...said} = outbox[0];
    // By the steady clock where the page is the same one; another page has to go by the time of day.
    said.age_ms = Math.max(0, page === performance.timeOrigin ? performance.now() - said.answered_ms : Date.now() - pressed);
    try {
      await ask("/api/answer", said);
      failures = 0;
      connected();
    } catch (error) {
      if (![401, 403, 409, 422].includes(error.status)) {
        noConnection();
        await new Promise((resolve) => setTimeout(resolve, RETRY[Math.min(failures++, RETRY.length - 1)]));
        continue;
      }
      if (error.status === 401 || error.status === 403) return lockOut(error);
      notice(`One answer does not count: ${error.message}.`);
    }
    localStorage.removeItem(kept + outbox.shift().lease);
  }
}

async function fill() {
  if (filling || refused || !status?.name || document.hidden) return;
  filling = true;
  try {
    const given = await ask("/api/next", {count: Math.min(12, Math.max(AHEAD, pairs.length) + outbox.length)});
    const mine = new Set(given.pairs.map((pair) => pair.lease));
    for (const pair of pairs.filter((each) => each !== onScreen && !each.undo && !mine.has(each.lease))) {
      pair.element.remove(); // after a long absence it has gone to somebody else
      pairs.splice(pairs.indexOf(pair), 1);
    }
    const held = new Set(pairs.map((pair) => pair.lease));
    for (const pair of given.pairs) {
      if (!held.has(pair.lease) && !done.has(pair.lease) && pairs.length < AHEAD + 1) pairs.push(prepare(pair));
    }
    connected();
    if (!onScreen) showNext();
  } catch (error) {
    if (error.status === 401 || error.status === 403) lockOut(error);
    else if (error.status) notice(`${error.message}.`);
    else noConnection();
  }
  filling = false;
}

async function refresh() {
  try {
    status = await ask("/api/status");
  } catch (error) {
    if (error.status === 403) lockOut(error);
    else noConnection();
    return;
  }
  const name = `prefrl-answer-${status.page}-`;
  if (kept && kept !== name) return location.reload(); // another run is served here by now
  if (!kept) {
    kept = name;
    recover();
  }
  draw();
  send();
}

function connected() {
  if (!outbox.length && LOST.test($("notice").textContent)) notice("");
}

function noConnection() {
  const ends = ["done", "stopped", "failed"].includes(status?.training?.state);
  if (ends && !outbox.length) return notice("The page was closed with the run; “prefrl label” serves it again.");
  const waiting = `${outbox.length} ${outbox.length === 1 ? "answer waits" : "answers wait"} here`;
  notice(outbox.length ? `No connection: ${waiting}.` : "No connection to the server; trying again.");
}

function lockOut(error) {
  refused = true;
  hold();
  showOnly("waiting");
  $("waiting").classList.add("quiet");
  $("waiting-title").textContent = "The server does not know this page";
  $("waiting-text").textContent =
    `${error.message}. Nothing is lost: answers that were not sent yet go out when the address is open again.`;
}

// -- Clips

function prepare(pair) {
  const element = document.createElement("div");
  element.className = "pair ahead";
  const prepared = {...pair, element, failed: 0};
  prepared.videos = pair.clips.map((source, i) => {
    const clip = document.createElement("button");
    const side = ["left", "right"][i];
    clip.type = "button";
    clip.className = `clip ${side}`;
    clip.dataset.choice = side;
    clip.tabIndex = -1; // the buttons below say the same
    clip.setAttribute("aria-label", `${side} clip is better`);
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.disablePictureInPicture = true;
    video.src = source;
    video.addEventListener("ended", () => ended(pair.lease));
    video.addEventListener("error", () => setTimeout(() => loadAgain(prepared, video), RELOAD));
    video.addEventListener("loadeddata", () => { prepared.failed = 0; });
    const name = document.createElement("span");
    for (const [kind, word] of [["wide", ["← Left", "Right →"][i]], ["narrow", ["Upper", "Lower"][i]]]) {
      const part = document.createElement("b");
      part.className = kind;
      part.textContent = word;
      name.append(part);
    }
    clip.append(video, name);
    element.append(clip);
    return video;
  });
  $("stage").append(element);
  return prepared;
}

function loadAgain(pair, video) { // the connection was lost, or the server is being restarted
  if (!pairs.includes(pair)) return;
  pair.failed += 1;
  if (pair.failed >= TRIES && onScreen === pair && !failures) {
    notice("A clip cannot be played here. Skip it with S; if it is all of them, this browser lacks H.264: try another.");
  }
  video.load();
  if (onScreen === pair) play(pair);
}

function showNext() {
  hold();
  onScreen?.element.remove();
  onScreen = pairs[0] || null;
  shownAt = null;
  delete $("stage").dataset.playing;
  viewedMs = 0;
  viewedSince = null;
  replays = 0;
  if (!onScreen) return draw();
  showOnly("labelling");
  const pair = onScreen;
  pair.element.classList.remove("ahead");
  if (pair.undo) notice("Taken back. What do you say now?");
  play(pair);
  const frames = pair.videos.map((video) => new Promise((resolve) => video.requestVideoFrameCallback(resolve)));
  Promise.all(frames).then(() => {
    if (onScreen !== pair) return;
    shownAt = performance.now();
    $("stage").dataset.playing = pair.lease;
    viewedSince = document.hidden ? null : shownAt;
    if (pressedAt !== null) performance.measure("answer-to-next", {start: pressedAt, end: shownAt});
    pressedAt = null;
  });
}

function play(pair) {
  clearTimeout(rounds);
  for (const video of pair.videos) {
    video.currentTime = 0;
    video.playbackRate = speed;
    video.play().catch(() => {}); // taken off the screen before it began
  }
}

function ended(lease) {
  const pair = onScreen;
  if (pair?.lease !== lease || !pair.videos.every((video) => video.ended)) return;
  rounds = setTimeout(() => onScreen === pair && play(pair), PAUSE);
}

function hold() {
  clearTimeout(rounds);
  onScreen?.videos.forEach((video) => video.pause());
}

function changeSpeed(by) {
  const at = SPEEDS.indexOf(speed);
  speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, (at < 0 ? SPEEDS.indexOf(1) : at) + by))];
  localStorage.setItem("prefrl-speed", String(speed));
  onScreen?.videos.forEach((video) => { video.playbackRate = speed; });
  drawSpeed();
}

// -- Answers

function answer(choice) {
  if (!onScreen || undos) return;
  if (shownAt === null && !(choice === "skip" && onScreen.failed >= TRIES)) return; // nothing to judge yet
  const now = performance.now();
  outbox.push({
    lease: onScreen.lease, choice, shown_ms: shownAt ?? now, answered_ms: now, active_ms: viewed(now), replays, speed,
    pressed: Date.now(), page: performance.timeOrigin,
  });
  keep(outbox[outbox.length - 1]);
  done.add(onScreen.lease);
  if (!onScreen.undo) answeredAt.push(now);
  pressedAt = now;
  say(WORDS[choice]);
  notice("");
  pairs.shift();
  showNext();
  send().then(fill);
  fill();
}

function undo() {
  undos += 1;
  undoing = undoing.then(takeBack).finally(() => { undos -= 1; });
}

async function takeBack() {
  if (refused || !status?.name) return;
  if (outbox.length && failures) return notice("Undo needs the server, which does not answer.");
  await send(); // else the answer before it would be taken back
  const before = onScreen?.undo ?? null;
  try {
    const {pair} = await ask("/api/undo", {before});
    if (!pair) return notice("There is nothing further to take back.");
    if (onScreen?.lease === pair.lease) return;
    if (onScreen?.undo) pairs.shift(); // left as it was
    else onScreen?.element.classList.add("ahead");
    hold();
    const earlier = pairs[0]?.element === onScreen?.element ? onScreen : null;
    if (earlier) onScreen = null;
    pairs.unshift(prepare(pair));
    pressedAt = null;
    showNext();
    say("taken back");
  } catch (error) {
    notice(error.status ? `${error.message}.` : "Undo needs the server, which does not answer.");
  }
}

function replay() {
  if (!onScreen || shownAt === null) return;
  replays += 1;
  play(onScreen);
}

function viewed(now) {
  return viewedMs + (viewedSince === null ? 0 : now - viewedSince);
}

// -- What the page says

function showOnly(id) {
  for (const each of ["welcome", "labelling", "waiting"]) $(each).hidden = each !== id;
  $("footer").hidden = id === "welcome";
}

function notice(text) {
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

function say(text) {
  $("spoken").textContent = text;
}

function draw() {
  if (!status || refused) return;
  for (const id of ["instruction", "welcome-instruction", "help-instruction"]) $(id).textContent = status.instruction;
  if (!status.name) {
    $("instruction").textContent = "";
    $("consent").textContent = status.consent.text;
    if ($("welcome").hidden) {
      $("name").value = localStorage.getItem("prefrl-name") || "";
      showOnly("welcome");
      $("name").focus();
    }
    return;
  }
  drawProgress();
  if (!onScreen) {
    showOnly("waiting");
    drawWaiting();
  }
}

function drawProgress() {
  const {training} = status;
  const wanted = training?.labels || status.queries;
  const sent = status.answered;
  const minutes = ratePerMinute();
  $("answers").textContent = `${sent} of ${wanted}`;
  $("own").textContent = String(status.own_answers + outbox.length);
  $("rate").textContent = minutes ? minutes.toFixed(minutes < 10 ? 1 : 0) : "–";
  $("left").textContent = minutes && sent < wanted ? duration(Math.max(0, wanted - sent) / minutes) : "–";
  $("bar").setAttribute("aria-valuemax", String(wanted));
  $("bar").setAttribute("aria-valuenow", String(sent));
  $("bar-done").style.width = `${Math.min(100, (100 * sent) / Math.max(1, wanted))}%`;
  $("training").hidden = !training;
  if (training) {
    $("training-text").textContent = trainingText(training);
    $("policy").hidden = !training.video;
    if (training.video && $("policy-video").dataset.video !== training.video) {
      $("policy-video").dataset.video = training.video;
      if ($("policy").open) showPolicy();
    }
  }
}

function trainingText(training) {
  const steps = `${grouped(training.env_steps)} of ${grouped(training.steps)} steps`;
  const open = status.queries - status.answered;
  if (training.state === "waiting") return `Training waits for answers, at ${steps}.`;
  if (training.state === "running") {
    const behind = open > 0 ? ` ${open} ${open === 1 ? "question is" : "questions are"} open.` : "";
    const rate = training.steps_per_second ? `, ${grouped(Math.round(training.steps_per_second))} steps a second` : "";
    return `Training goes on${rate}: ${steps}.${behind}`;
  }
  const ends = {done: "Training is done", stopped: "Training has been stopped", failed: "Training has failed"};
  return `${ends[training.state] || "Training is not running"}: ${steps}.`;
}

function drawWaiting() {
  const state = status.training?.state;
  const more = state === "running" || state === "waiting";
  $("waiting").classList.toggle("quiet", !more && status.queries === status.answered);
  if (status.queries > status.answered) {
    $("waiting-title").textContent = "The next clips are being made";
    $("waiting-text").textContent = "Or others have the last ones before them. They come by themselves.";
  } else if (more && !status.queries) {
    $("waiting-title").textContent = "The first questions are being made";
    $("waiting-text").textContent = "The robot tries some random movements, and asks about them by itself.";
  } else if (more) {
    $("waiting-title").textContent = "You have answered everything so far";
    $("waiting-text").textContent = "The robot goes on, and asks again by itself.";
  } else if (!status.training) {
    $("waiting-title").textContent = "Everything asked so far is answered";
    $("waiting-text").textContent = "Thank you. If there are more questions, they come by themselves.";
  } else {
    $("waiting-title").textContent = "Everything is answered";
    $("waiting-text").textContent = "Thank you. You can close this page.";
  }
}

function drawSpeed() {
  $("speed").textContent = `${speed}×`;
  $("slower").disabled = speed === SPEEDS[0];
  $("faster").disabled = speed === SPEEDS[SPEEDS.length - 1];
}

function showPolicy() {
  $("policy-video").src = `/video?${$("policy-video").dataset.video}`;
  $("policy-video").play().catch(() => {});
}

function ratePerMinute() {
  const recent = answeredAt.slice(-20);
  if (recent.length < 3) return 0;
  return ((recent.length - 1) * 60000) / (performance.now() - recent[0]);
}

function duration(minutes) {
  if (minutes < 1) return "under a minute";
  if (minutes < 90) return `${Math.round(minutes)} min`;
  return `${Math.floor(minutes / 60)} h ${Math.round(minutes % 60)} min`;
}

function grouped(number) {
  return number.toLocaleString("en");
}

// -- What people do

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("help").open || event.target.matches("input, video")) return;
  const known = {
    u: undo, U: undo, Backspace: undo, r: replay, R: replay, "-": () => changeSpeed(-1), "_": () => changeSpeed(-1),
    "+": () => changeSpeed(1), "=": () => changeSpeed(1), "?": () => $("help").showModal(),
  };
  if (event.key === " " && !event.target.matches("button, summary")) known[" "] = replay;
  if (!KEYS[event.key] && !known[event.key]) return;
  if (!status?.name && event.key !== "?") return;
  event.preventDefault();
  if (event.repeat) return; // a key held down is one answer
  if (KEYS[event.key]) answer(KEYS[event.key]);
  else known[event.key]();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choice]");
  if (button) answer(button.dataset.choice);
});

document.addEventListener("visibilitychange", () => {
  const now = performance.now();
  if (document.hidden) {
    viewedMs = viewed(now);
    viewedSince = null;
  } else {
    if (shownAt !== null) viewedSince = now;
    refresh();
    fill();
  }
});

$("undo").addEventListener("click", undo);
$("replay").addEventListener("click", replay);
$("slower").addEventListener("click", () => changeSpeed(-1));
$("faster").addEventListener("click", () => changeSpeed(1));
$("help-button").addEventListener("click", () => $("help").showModal());
$("policy").addEventListener("toggle", () => ($("policy").open ? showPolicy() : $("policy-video").pause()));

$("welcome").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const name = $("name").value;
    await ask("/api/join", {name, consent: status.consent.version});
    localStorage.setItem("prefrl-name", name);
    await refresh();
    fill();
  } catch (error) {
    $("name-problem").textContent = error.status ? `${error.message}.` : "The server does not answer; try again.";
  }
});

async function start() {
  drawSpeed();
  await refresh();
  fill();
  setInterval(refresh, STATUS_EVERY);
  setInterval(() => { if (!onScreen) fill(); }, EMPTY_EVERY);
  setInterval(fill, KEEP_EVERY);
}

start();
