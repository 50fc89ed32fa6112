window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = true; });
});
document.querySelectorAll("table.sortable").forEach(function (table) {
  table.querySelectorAll("th").forEach(function (head, column) {
    head.tabIndex = 0;
    function sort() {
      var rising = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      var body = table.tBodies[0];
      Array.from(body.rows).map(function (row) { return [row.cells[column].dataset.k, row]; }).sort(function (a, b) {
        var x = parseFloat(a[0]), y = parseFloat(b[0]);
        var order = head.classList.contains("n") ? x - y : a[0].localeCompare(b[0]);
        return rising ? order : -order;
      }).forEach(function (pair) { body.appendChild(pair[1]); });
    }
    head.addEventListener("click", sort);
    head.addEventListener("keydown", function (event) { if (event.key === "Enter") sort(); });
  });
});
