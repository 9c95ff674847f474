// Tells the values where somebody points at a plot. Everything the page has to say stands in it without this.
for (const area of document.querySelectorAll(".area")) {
  const readouts = JSON.parse(area.dataset.readouts);
  const text = area.closest("figure").querySelector(".readout");
  const mark = document.createElement("i");
  mark.className = "mark";
  const tell = (event) => {
    const box = area.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    const distance = (readout) => Math.abs(readout.at - at);
    const nearest = readouts.reduce((one, other) => (distance(other) < distance(one) ? other : one), readouts[0]);
    if (!nearest) return;
    mark.style.left = 100 * nearest.at + "%";
    area.append(mark);
    text.textContent = nearest.text;
  };
  const leave = () => {
    mark.remove();
    text.textContent = "";
  };
  area.addEventListener("pointermove", tell);
  area.addEventListener("pointerdown", tell);
  area.addEventListener("pointerleave", leave);
}
