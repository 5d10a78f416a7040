// What the account pages share. The token of the link leaves the address bar at once, so that it is in no history, no
// screenshot and no copied address; the history's state keeps it for a reload. Only a click sends it: programs that look
// into mails open links too.
"use strict";
(() => {
  const form = document.getElementById("form");
  const button = form.querySelector("button");
  const problem = document.getElementById("problem");
  const done = document.getElementById("done");
  const given = new URLSearchParams(location.search).get("token");
  const token = given || (history.state && history.state.token) || "";
  history.replaceState({ token }, "", location.pathname);

  const DEAD = "This link does not work any more: it was used already, it has expired, or something newer has taken its place. " +
    form.dataset.again;

  function say(sentences) {
    problem.replaceChildren(...sentences.map((sentence) => {
      const line = document.createElement("div");
      line.textContent = sentence;
      return line;
    }));
    problem.hidden = sentences.length === 0;
  }

  function mark(input, sentences) {
    const place = document.getElementById(input.id + "-wrong");
    place.textContent = sentences.join(" ");
    place.hidden = sentences.length === 0;
    if (sentences.length > 0) {
      // A field that is needed now and then only shows up when it is.
      input.closest(".field").hidden = false;
      input.setAttribute("aria-invalid", "true");
    } else {
      input.removeAttribute("aria-invalid");
    }
  }

  const fields = [...form.querySelectorAll("input[name]")];

  function clear() {
    say([]);
    fields.forEach((input) => mark(input, []));
  }

  // What the answer says beside the field it is about; what is about no field above them all.
  function refuse(status, answer) {
    const others = [];
    let first = null;
    for (const [name, sentences] of Object.entries(answer)) {
      if (!Array.isArray(sentences)) continue;
      const input = fields.find((field) => field.name === name);
      if (input) {
        mark(input, sentences);
      } else if (name === "token" && form.dataset.wrong) {
        others.push(form.dataset.wrong + " " + form.dataset.again);
      } else if (name === "token") {
        others.push(DEAD);
      } else {
        others.push(...sentences);
      }
    }
    first = fields.find((input) => input.hasAttribute("aria-invalid"));
    if (others.length === 0 && !first) {
      others.push(status < 500 && answer.detail ? answer.detail
        : "Something went wrong on our side. Please try again in a minute.");
    }
    say(others);
    (first && others.length === 0 ? first : problem).focus();
  }

  function succeed(answer) {
    history.replaceState(null, "", location.pathname);
    form.hidden = true;
    done.hidden = false;
    done.focus();
    // Signing in is up to the client that people work with: the session that came with the answer is nobody's.
    if (answer.token) {
      fetch("/api/logout/", { method: "POST", headers: { Authorization: "Bearer " + answer.token } }).catch(() => {});
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear();
    const body = { token };
    for (const input of fields) {
      if (input.value !== "" || input.required) body[input.name] = input.value;
    }
    button.disabled = true;
    try {
      const response = await fetch(form.dataset.action, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      const answer = await response.json();
      if (response.ok) {
        succeed(answer);
      } else {
        refuse(response.status, answer);
      }
    } catch {
      say(["The server can't be reached. Check your connection and try again."]);
      problem.focus();
    } finally {
      button.disabled = false;
    }
  });

  for (const box of document.querySelectorAll("input[data-shows]")) {
    const input = document.getElementById(box.dataset.shows);
    box.addEventListener("change", () => { input.type = box.checked ? "text" : "password"; });
  }

  if (token) {
    form.hidden = false;
    button.disabled = false;
  } else {
    say(["There is no token in this link: open it from the mail once more, whole. " + form.dataset.again]);
  }
})();
