// The API key, where the service asks for one. It stays in this tab, and is forgotten when the tab is closed.

const PLACE = "digitserve-api-key";

export function apiKey() {
  return sessionStorage.getItem(PLACE);
}

// Ask the visitor for a key, saying why; `onKey` is called once there is one.
export function askForKey(form, why, onKey) {
  const field = form.querySelector("input");
  form.querySelector("label").textContent = why;
  form.hidden = false;
  field.value = "";
  field.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(PLACE, field.value.trim());
    form.hidden = true;
    onKey();
  };
}
