// The checker reads a history on stdin, one operation a line (JSON), and asks porcupine whether
// the operations of each job are those of the reducer (gateway/model/reducer.py), one at a time. A
// group and all below it are one history, because an update of a child changes its groups too.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

func main() {
	jobs := map[string][]porcupine.Operation{}
	trees := map[string]bool{}
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 1<<20)
	count := 0
	for scanner.Scan() {
		var op Op
		if err := json.Unmarshal(scanner.Bytes(), &op); err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		root, rest, isChild := strings.Cut(op.Job, "/")
		if isChild || (op.Update != nil && op.Update.Children > 0) {
			trees[root] = true
		}
		if isChild {
			op.place = placeOf("/" + rest)
		}
		jobs[root] = append(jobs[root], porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Return: op.Return,
		})
		count++
	}
	single := porcupine.Model{Init: func() any { return Model{} }, Step: step}
	tree := porcupine.Model{Init: func() any { return Tree{} }, Step: stepTree}
	names := make([]string, 0, len(jobs))
	for name := range jobs {
		names = append(names, name)
	}
	sort.Strings(names)
	code := 0
	for _, name := range names {
		model := single
		if trees[name] {
			model = tree
		}
		result := porcupine.CheckOperationsTimeout(model, jobs[name], 30*time.Second)
		if result != porcupine.Ok {
			fmt.Println(name, result)
			code = 1
		}
	}
	fmt.Printf("%d operations on %d jobs\n", count, len(jobs))
	os.Exit(code)
}
