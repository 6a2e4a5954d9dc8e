// Keeps the page of all dumps up to date while an export runs or is asked for: fetches it again and puts in what changed in the elements
// with data-live. A reload shows the same. Nothing that can have the focus is touched.
(function () {
  "use strict";
  var EVERY_MS = 2000;

  function busy() {
    return document.querySelector(".datastore-dumper-table progress, .datastore-dumper-requested") !== null;
  }

  function update(html) {
    var fresh = new DOMParser().parseFromString(html, "text/html");
    document.querySelectorAll("[data-live]").forEach(function (element) {
      var name = CSS.escape(element.getAttribute("data-live"));
      var now = fresh.querySelector('[data-live="' + name + '"]');
      if (now && now.innerHTML !== element.innerHTML) {
        element.innerHTML = now.innerHTML;
      }
    });
  }

  function refresh() {
    if (document.hidden) {
      return wait();
    }
    return fetch(window.location.href, { credentials: "same-origin" })
      .then(function (response) {
        // Somebody who was logged out is sent to another page, or refused. What else goes wrong may pass.
        if (response.redirected || [401, 403, 404].indexOf(response.status) !== -1) {
          return null;
        }
        return (response.ok ? response.text().then(update) : Promise.resolve()).then(wait);
      })
      .catch(wait);
  }

  function wait() {
    if (busy()) {
      window.setTimeout(refresh, EVERY_MS);
    }
  }

  wait();
})();
