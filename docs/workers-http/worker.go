// Reports a job to a progress-gateway. Go 1.22 or newer, the standard library alone.
//
//	ls | go run worker.go import:7 120      works on one item a line, of 120
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

type fields map[string]any

// Answer says what became of an update.
type Answer struct {
	Applied        bool
	Attempt        int
	Reason, Detail string
}

var client = http.Client{Timeout: 5 * time.Second}
var gateway = cmp.Or(os.Getenv("PROGRESS_GATEWAY_URL"), "http://127.0.0.1:8000")

// The loop.

func post(to string, state fields, told *Answer) error {
	body, _ := json.Marshal(state)
	request, _ := http.NewRequest("POST", to, bytes.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+os.Getenv("PROGRESS_GATEWAY_TOKEN"))
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if code := answer.StatusCode; code >= 500 || code == 408 || code == 425 || code == 429 || answer.Header.Get("Progress-Gateway") == "" {
		return fmt.Errorf("HTTP %d", code)
	}
	return json.NewDecoder(answer.Body).Decode(told)
}

// report sends the newest state until the end is delivered, or nothing more can be.
func report(name string, lease float64, newest *atomic.Pointer[fields], changed <-chan bool) {
	began, failures, tries, run := time.Now(), 0, 0, strconv.FormatUint(rand.Uint64(), 36)
	identity := fields{"run": run, "start": true, "lease": lease}
	for ; ; time.Sleep((5e7 + rand.N[time.Duration](1e8)) << min(failures, 7)) {
		state, told := maps.Clone(*newest.Load()), Answer{} // all of it, so that nothing is missing after an outage
		maps.Copy(state, identity)
		state["age"] = time.Since(began).Seconds()
		err := post(gateway+"/api/jobs/"+url.PathEscape(name), state, &told)
		switch ended := state["status"] != "running"; {
		case ended && (told.Applied || told.Reason == "final"):
			return
		case err == nil && !told.Applied && told.Reason != "unchanged", ended && tries > 12:
			log.Printf("%s: no longer reported: %s %v", name, told.Detail, err)
			return
		case err != nil: // no answer, or "not now": again; after the end for a minute or two
			log.Printf("%s: not reported, will be tried again: %v", name, err)
			failures, tries = failures+1, map[bool]int{true: tries + 1}[ended]
		default:
			identity, failures = fields{"run": run, "attempt": told.Attempt, "lease": lease}, 0
			select {
			case <-changed:
			case <-time.After(time.Duration(lease / 3 * 1e9)):
			}
		}
	}
}

// The worker.

func main() {
	if at, err := url.Parse(gateway); err != nil || at.Host == "" {
		log.Fatalf("PROGRESS_GATEWAY_URL is not a URL: %s", gateway)
	}
	total, _ := strconv.Atoi(os.Args[2])
	lease, _ := strconv.ParseFloat(cmp.Or(os.Getenv("LEASE"), "30"), 64)
	var newest atomic.Pointer[fields]
	changed, reported := make(chan bool, 1), make(chan bool)
	update := func(state fields) { // takes no time; at most ten are sent a second
		newest.Store(&state)
		select {
		case changed <- true:
		default:
		}
	}
	done := 0
	update(fields{"status": "running", "done": done, "total": total, "unit": "items"})
	go func() { report(os.Args[1], lease, &newest, changed); close(reported) }()

	items := bufio.NewScanner(os.Stdin)
	for items.Scan() {
		done++
		update(fields{"status": "running", "done": done, "total": total, "unit": "items", "message": items.Text()})
	}
	end := fields{"status": "succeeded", "done": done, "total": total, "unit": "items"}
	if err := items.Err(); err != nil {
		end["status"], end["error"] = "failed", err.Error()
	}
	update(end)
	<-reported
}
