"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const at = (name) => document.getElementById(name);
const sides = ["left", "right"];
const names = Object.keys(study.dimensions);
const shelf = `loopy study ${study.study} ${study.rater}`;
const seen = new Set(); // clips watched to their end
let answers = study.trials.map(() => ({})); // of each trial: dimension to choice
let place = 0;

try { // a browser may forbid a file to keep anything
  const kept = JSON.parse(localStorage.getItem(shelf));
  if (kept && kept.length === study.trials.length) answers = kept;
} catch { /* begin anew */ }

const complete = (answer) => names.every((name) => name in answer);
study.trials.forEach((trial, i) => { // an earlier visit has watched them
  if (complete(answers[i])) seen.add(trial.left).add(trial.right);
});

function keep() {
  try { localStorage.setItem(shelf, JSON.stringify(answers)); } catch { /* the file remains */ }
}

function rows() { // one for each answer, in the order of study.head
  return study.trials.flatMap((trial, i) =>
    names.filter((name) => name in answers[i]).map((name) =>
      [study.study, study.rater, i + 1, trial.left, trial.right, name, answers[i][name]]));
}

function save() {
  const text = [study.head, ...rows()].map((row) => row.join(",") + "\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${study.rater}.csv`;
  link.click();
}

function show(section) {
  for (const name of ["start", "trial", "end"]) at(name).hidden = name !== section;
}

function turn(to) { // to a trial, or to the end behind the last
  for (const side of sides) at(side).pause();
  if (to >= study.trials.length) {
    show("end");
    at("thanks").focus();
    return;
  }
  place = to;
  show("trial");
  at("title").textContent = `Pair ${place + 1} of ${study.trials.length}`;
  at("progress").max = study.trials.length;
  at("progress").value = answers.filter(complete).length;
  for (const side of sides) at(side).src = study.files[study.trials[place][side]];
  for (const input of at("questions").elements) {
    if (input.type === "radio") input.checked = answers[place][input.name] === input.value;
  }
  at("back").disabled = place === 0;
  weigh();
  at("title").focus();
}

function weigh() { // may the rater go on?
  const watched = sides.every((side) => seen.has(study.trials[place][side]));
  at("next").disabled = !(watched && complete(answers[place]));
  at("hint").textContent = at("next").disabled
    ? "Watch both videos to their end and answer all six questions to go on."
    : "";
}

for (const [name, question] of Object.entries(study.dimensions)) {
  const field = document.createElement("fieldset");
  const legend = field.appendChild(document.createElement("legend"));
  legend.textContent = question;
  for (const choice of study.choices) {
    const label = field.appendChild(document.createElement("label"));
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, { type: "radio", name, value: choice });
    label.append(` ${choice === "same" ? "no difference" : choice}`);
  }
  at("questions").append(field);
}

at("questions").addEventListener("change", (event) => {
  answers[place][event.target.name] = event.target.value;
  keep();
  weigh();
});
for (const side of sides) {
  const other = at(sides.find((name) => name !== side));
  at(side).addEventListener("play", () => other.pause()); // one voice at a time
  at(side).addEventListener("ended", () => {
    seen.add(study.trials[place][side]);
    weigh();
  });
  at(side).addEventListener("error", () => {
    at("hint").textContent = `The ${side} video cannot be played: is the folder "clips" beside this page?`;
  });
}
at("many").textContent = study.trials.length;
at("begin").addEventListener("click", () => {
  const open = answers.findIndex((answer) => !complete(answer));
  turn(open < 0 ? study.trials.length : open);
});
at("next").addEventListener("click", () => turn(place + 1));
at("back").addEventListener("click", () => turn(place - 1));
at("again").addEventListener("click", () => turn(study.trials.length - 1));
at("save").addEventListener("click", save);
at("finish").addEventListener("click", save);
