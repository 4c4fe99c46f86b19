// Show the cards of the chosen kind and class.
const chosen = [...document.querySelectorAll(".filters select")];
const cards = [...document.querySelectorAll(".cards li")];
const shown = document.querySelector("#shown");
const update = () => {
  let count = 0;
  for (const card of cards) {
    card.hidden = chosen.some((one) => one.value && !card.dataset[one.name].split("\t").includes(one.value));
    count += !card.hidden;
  }
  shown.textContent = `${count} of ${cards.length} shown`;
};
chosen.forEach((one) => one.addEventListener("change", update));
update();
