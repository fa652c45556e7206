package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// tagsOf lists what the tags of a repository, layout or archive name.
func tagsOf(t *testing.T, where string) map[string]string {
	t.Helper()
	ctx := context.Background()
	ref, err := registry.ParseReference(where)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Open(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	out := map[string]string{}
	for tag, err := range repo.Tags(ctx) {
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		d, err := repo.Tagged(ctx, tag)
		if err != nil {
			t.Fatal(err)
		}
		out[tag] = string(d)
	}
	return out
}

// filled puts images into repositories of a registry, each under its tags: "db/server" → "16 16.4 latest".
func (w *world) filled(s *regtest.Server, repos map[string]string) (refs []string) {
	w.t.Helper()
	for repo, tags := range repos {
		for i, tag := range strings.Fields(tags) {
			if i == 0 {
				w.image("seed", repo, strings.ReplaceAll(repo, "/", "-"))
			}
			ref := s.Host + "/" + repo + ":" + tag
			w.want(0, "copy", "oci:"+w.path("seed")+":"+strings.ReplaceAll(repo, "/", "-"), ref, "-q")
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	return refs
}

func TestCopyWholeRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, d := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithoutAPI)
	hex := strings.Repeat("0a", 32)
	w.filled(s, map[string]string{"db/server": "16 16.4 latest sha256-" + hex + " sha256-" + hex + ".sig", "db/client": "16"})
	listed := func(repo string) int {
		return s.Count(func(r regtest.Request) bool { return r.Path == "/v2/"+repo+"/tags/list" })
	}
	from, to := s.Host+"/db/server", d.Host+"/mirror/server"

	got := w.want(0, "copy", from, to, "--all-tags", "-o", "json")
	if n := listed("db/server"); n != 1 {
		t.Errorf("the tags were listed %d times", n)
	}
	if diff := cmp.Diff(tagsOf(t, from)["16"], tagsOf(t, to)["latest"]); diff != "" {
		t.Error(diff)
	}
	if tags := tagsOf(t, to); len(tags) != 3 || tags["16.4"] == "" {
		t.Errorf("the destination has %v", tags)
	}
	if n := len(lines(got.out)); n != 4 || !strings.Contains(got.err, "1 tags of the form sha256-….sig") {
		t.Errorf("%d lines, %s", n, got.err)
	}

	// A pattern says which tags, and means the whole repository.
	w.want(0, "copy", from, d.Host+"/some", "--match", "16*", "--match", "l?test")
	w.want(0, "copy", from, d.Host+"/few", "--match", "16.*")
	if all, few := tagsOf(t, d.Host+"/some"), tagsOf(t, d.Host+"/few"); len(all) != 3 || len(few) != 1 || few["16.4"] == "" {
		t.Errorf("some has %v, few %v", all, few)
	}
	// One tag is a batch all the same: scripts read one form.
	one := w.want(0, "copy", from, d.Host+"/few", "--match", "16.*", "-o", "json")
	if l := lines(one.out); len(l) != 2 || !strings.Contains(l[1], `"kind":"summary"`) {
		t.Errorf("one tag of a repository is no batch: %s", one.out)
	}

	// What cannot be listed, or has nothing, is one item that fails, and can be run again as it is.
	list := w.file("list", fmt.Sprintf("%[1]s/db/server %[2]s/x\n%[1]s/nothere %[2]s/y\n%[1]s/db/client %[2]s/z\n%[1]s/db/client %[2]s/zz\n"+
		"%[1]s/db/client:16 %[2]s/z\n%[1]s/db/client %[2]s/z:16\n", s.Host, d.Host))
	got = w.want(7, "copy", "--batch", list, "--all-tags", "-o", "json")
	if n := listed("db/client"); n != 1 {
		t.Errorf("two items of one repository listed its tags %d times", n)
	}
	if tags := tagsOf(t, d.Host+"/z"); len(tags) != 1 {
		t.Errorf("z has %v", tags)
	}
	if !strings.Contains(got.out, fmt.Sprintf(`"item":["%s/nothere","%s/y"]`, s.Host, d.Host)) {
		t.Errorf("no failure to run again: %s", got.out)
	}
	for _, says := range []string{"names one artifact, and a whole repository was asked for", "a whole repository goes there"} {
		if !strings.Contains(got.out, says) {
			t.Errorf("nothing says %q: %s", says, got.out)
		}
	}
	got = w.want(4, "copy", from, d.Host+"/none", "--match", "17*")
	if !strings.Contains(got.err, "no tag of it matches 17*") {
		t.Errorf("%s", got.err)
	}

	// The lines of a run as a batch, --all-tags or not: what was expanded is not expanded again.
	got = w.want(0, "copy", from, d.Host+"/again", "--all-tags", "--dry-run", "-o", "json")
	plan := w.file("plan", got.out)
	w.want(0, "copy", "--batch", plan, "--all-tags")
	if tags := tagsOf(t, d.Host+"/again"); len(tags) != 3 {
		t.Errorf("the plan wrote %v", tags)
	}
}

// TestCopyHostileLists: what a registry lists is not believed to be tags, nor to end.
func TestCopyHostileLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body, says string
	}{
		{"no tag", `{"tags":["1.0","../../x"]}`, "a tag that is none"},
		{"a reference", `{"tags":["1.0@sha256:0"]}`, "a tag that is none"},
		{"no list", `[]`, "no JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := regtest.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				fmt.Fprint(rw, tt.body)
			}))
			got := w.want(4, "copy", s.Host+"/a", "oci:"+w.path("out"), "--all-tags")
			if !strings.Contains(got.err, tt.says) {
				t.Errorf("%s", got.err)
			}
		})
	}
}

// TestCopyThroughAnArchive: full names go in and come out, three of them with one tag.
func TestCopyThroughAnArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, d := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithoutAPI)
	refs := w.filled(s, map[string]string{"db/server": "1.0 latest", "db/client": "1.0", "web/proxy": "1.0"})
	list := w.file("list", "# nightly\n"+strings.Join(refs, "\n")+"\n"+s.Host+"/nothere:1.0\nvendor.other/x:1.0\n")
	into := []string{"copy", "--batch", list, "--map", s.Host + "=oci-archive:" + w.path("out.tar")}

	if plan := w.want(7, append(into, "--dry-run")...); !strings.Contains(plan.out, "4 to copy") {
		t.Errorf("%s", plan.out)
	}
	if left := w.tree("."); slices.ContainsFunc(keys(left), func(name string) bool { return strings.HasSuffix(name, ".tar") || strings.Contains(name, ".imprint-") }) {
		t.Errorf("a dry run left %v", keys(left))
	}
	// What failed is left out; the archive is there with the others.
	got := w.want(7, append(into, "-o", "json")...)
	if !strings.Contains(got.out, "no --map has a FROM") {
		t.Errorf("%s", got.out)
	}
	in := tagsOf(t, "oci-archive:"+w.path("out.tar"))
	if len(in) != 4 {
		t.Fatalf("the archive has %v", in)
	}
	for _, ref := range refs {
		if in[ref] == "" {
			t.Errorf("the archive lacks %s: %v", ref, in)
		}
	}
	if got := w.want(3, into...); !strings.Contains(got.err, "out.tar exists") || strings.Count(got.err, "imprint: error:") != 1 {
		t.Errorf("an archive that exists: %s", got.err)
	}

	s.Close() // over an air gap
	got = w.want(0, "copy", "oci-archive:"+w.path("out.tar"), "--all-tags", "--map", s.Host+"="+d.Host+"/vendor", "--map", s.Host+"/web="+d.Host+"/sites")
	if !strings.Contains(got.out, "4 copied of 4 items") {
		t.Errorf("%s", got.out)
	}
	for repo, want := range map[string]int{"vendor/db/server": 2, "vendor/db/client": 1, "sites/proxy": 1} {
		if tags := tagsOf(t, d.Host+"/"+repo); len(tags) != want || tags["1.0"] != in[s.Host+"/"+strings.Replace(strings.TrimPrefix(repo, "vendor/"), "sites", "web", 1)+":1.0"] {
			t.Errorf("%s has %v", repo, tags)
		}
	}

	// Into another layout names stay as they are; into one repository by their tags.
	w.want(0, "copy", "oci-archive:"+w.path("out.tar"), "oci:"+w.path("lay"), "--all-tags")
	if diff := cmp.Diff(in, tagsOf(t, "oci:"+w.path("lay"))); diff != "" {
		t.Errorf("archive to layout (-want +got):\n%s", diff)
	}
	got = w.want(1, "copy", "oci-archive:"+w.path("out.tar"), d.Host+"/one", "--all-tags", "--jobs", "1")
	if n := strings.Count(got.err, "tag-moves") + strings.Count(got.err, "1.0 names"); n == 0 {
		t.Errorf("three things of one tag went into one repository: %s", got.err)
	}
	// Names that are none cannot be mapped, and are said.
	w.want(0, "copy", "oci-archive:"+w.path("out.tar")+":"+refs[0], "oci-archive:"+w.path("bare.tar")+":1.0")
	got = w.want(3, "copy", "oci-archive:"+w.path("bare.tar"), "--all-tags", "--map", s.Host+"="+d.Host+"/bare")
	if !strings.Contains(got.err, "bare.tar:1.0: its name is not HOST/REPO:TAG") {
		t.Errorf("%s", got.err)
	}
	w.want(0, "copy", "oci-archive:"+w.path("bare.tar"), d.Host+"/bare", "--all-tags")
}

func keys(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestCopyAppends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.image("lay", "one", "1.0"), w.image("lay", "two", "2.0")
	archive, file := "oci-archive:"+w.path("out.tar"), w.path("out.tar")
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", archive, "--append") // one that does not exist is begun
	w.want(3, "copy", "oci:"+w.path("lay")+":2.0", archive)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.want(0, "copy", "oci:"+w.path("lay")+":1.0", archive, "--append", "--dry-run", "-o", "json"); !strings.Contains(got.out, `"status":"there"`) {
		t.Errorf("the plan does not see what is in the archive: %s", got.out)
	}
	w.want(0, "copy", "oci:"+w.path("lay")+":2.0", archive, "--append", "--dry-run")
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("a dry run changed the archive: %v", err)
	}
	w.want(4, "copy", "oci:"+w.path("lay")+":3.0", archive, "--append")
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("a failure changed the archive: %v", err)
	}
	w.want(0, "copy", "oci:"+w.path("lay")+":2.0", archive, "--append")
	if diff := cmp.Diff(map[string]string{"1.0": string(one), "2.0": string(two)}, tagsOf(t, archive)); diff != "" {
		t.Errorf("appended (-want +got):\n%s", diff)
	}
	w.want(1, "copy", "oci:"+w.path("lay")+":2.0", archive+":1.0", "--append") // a name does not move without leave
	w.want(0, "copy", "oci:"+w.path("lay")+":2.0", archive+":1.0", "--append", "--move", "1.0")
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", archive, "--overwrite")
	if diff := cmp.Diff(map[string]string{"1.0": string(one)}, tagsOf(t, archive)); diff != "" {
		t.Errorf("replaced (-want +got):\n%s", diff)
	}
}

// TestCopyItemsOfOneArchive: it is written once, however its path is written, and interrupted not at all.
func TestCopyItemsOfOneArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list strings.Builder
	for i := range 5 {
		name := fmt.Sprintf("v%d", i)
		w.image("lay", name, name)
		fmt.Fprintf(&list, "oci:%s:%s oci-archive:%s%sout.tar\n", w.path("lay"), name, w.dir, strings.Repeat("/.", i)+"/")
	}
	file := w.file("list", list.String())
	w.want(0, "copy", "--batch", file)
	if tags := tagsOf(t, "oci-archive:"+w.path("out.tar")); len(tags) != 5 {
		t.Errorf("the archive has %v", tags)
	}
	before, err := os.ReadFile(w.path("out.tar"))
	if err != nil {
		t.Fatal(err)
	}

	s := regtest.New(t, regtest.WithAPI)
	w.filled(s, map[string]string{"app": "1"})
	w.image("lay", "new", "new") // the archive would be another, were it written
	fmt.Fprintf(&list, "oci:%s:new oci-archive:%s\n", w.path("lay"), w.path("out.tar"))
	ctx, cancel := context.WithCancelCause(context.Background())
	s.Intercept(func(http.ResponseWriter, *http.Request) bool {
		cancel(interruption{2})
		return false
	})
	for _, how := range []string{"--append", "--overwrite"} {
		again := w.file("again", list.String()+s.Host+"/app:1 oci-archive:"+w.path("out.tar")+"\n")
		if got := w.runContext(ctx, "copy", "--batch", again, "--jobs", "1", how); got.code != 130 {
			t.Fatalf("%s: exit %d: %s%s", how, got.code, got.out, got.err)
		}
		if after, err := os.ReadFile(w.path("out.tar")); err != nil || string(after) != string(before) {
			t.Errorf("%s: an interrupted run changed the archive: %v", how, err)
		}
		for name := range w.tree(".") {
			if strings.Contains(name, ".imprint-") {
				t.Errorf("%s: it left %s", how, name)
			}
		}
	}
}

// TestPlanReviewRun: the JSON of a dry run is a batch that does what it says, with the tags that it had; somebody deletes
// lines of it; what fails runs again as it is, under the very same command line or another.
func TestPlanReviewRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	s, d := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithAPI)
	refs := w.filled(s, map[string]string{"a": "1", "b": "1", "c": "1", "e": "1"})
	for _, ref := range refs[:3] {
		w.want(0, w.sign(ref, "--claim", "prod")...)
	}
	gate := []string{"--root", w.path("root.pem")}
	command := append([]string{"copy", "--batch", w.file("list", strings.Join(refs, "\n")), "--map", s.Host + "=" + d.Host, "--tag", "1", "--tag", "prod", "-o", "json"}, gate...)
	plan := w.want(1, append(command, "--dry-run")...) // one is refused: it is unsigned
	if n := d.Writes(); n != 0 || !strings.Contains(plan.out, `"reason":"unsigned"`) {
		t.Fatalf("%d writes of a dry run: %s", n, plan.out)
	}
	var kept []string
	for _, l := range lines(plan.out) {
		if !strings.Contains(l, "/b:1\"") {
			kept = append(kept, l)
		}
	}
	reviewed := w.file("plan", strings.Join(kept, "\n"))
	was := tagsOf(t, s.Host+"/c")["1"]
	w.filled(s, map[string]string{"moved": "1"})
	w.want(0, "copy", s.Host+"/moved:1", s.Host+"/c:1", "--move", "1") // after the review

	// The plan is the batch: no --map and no --tag are said again.
	ran := w.want(1, append([]string{"copy", "--batch", reviewed, "-o", "json"}, gate...)...)
	if !strings.Contains(ran.err, "left out of the batch: 1 of its lines, which its plan refused") || strings.Contains(ran.out, "/e:1") {
		t.Errorf("what the plan refused: %s%s", ran.err, ran.out)
	}
	if r := ran.reason(t); r != "tag-digest-mismatch" {
		t.Errorf("what moved after the review: %s", r)
	}
	if tags := tagsOf(t, d.Host+"/a"); len(tags) != 2 || tags["prod"] == "" || tags["1"] != tags["prod"] {
		t.Errorf("a has %v", tags)
	}
	for _, repo := range []string{"b", "c", "e"} {
		if n := d.Count(func(r regtest.Request) bool {
			return r.Method == http.MethodPut && strings.HasPrefix(r.Path, "/v2/"+repo+"/")
		}); n != 0 {
			t.Errorf("%d writes to %s", n, repo)
		}
	}

	// What failed runs as it is, with its tags; what was done is there already.
	w.want(0, "copy", s.Host+"/c@"+was, s.Host+"/c:1", "--move", "1")
	again := w.want(0, append([]string{"copy", "--batch", w.file("ran", ran.out), "-o", "json"}, gate...)...)
	if all := copyLines(t, again.out); len(all) != 3 || all[0].Tags[0].Status != "there" || len(all[1].Tags) != 2 || all[1].Tags[1].Status != "written" {
		t.Errorf("%s", again.out)
	}
	if tags := tagsOf(t, d.Host+"/c"); tags["1"] != was || tags["prod"] != was {
		t.Errorf("c has %v, want %s", tags, was)
	}
	// The command that made the plan takes it too, though its --map makes a list of sources.
	w.want(0, append(command, "--batch", reviewed)...)
	// A plan that refused everything has nothing to run.
	none := w.want(1, append([]string{"copy", "--batch", w.file("unsigned", refs[3]+" "+d.Host+"/e\n"), "--dry-run", "-o", "json"}, gate...)...)
	if got := w.want(3, "copy", "--batch", w.file("none", none.out)); !strings.Contains(got.err, "nothing but what its plan refused") {
		t.Errorf("%s", got.err)
	}
}

// A copyLine is what tests read of a line of JSON.
type copyLine struct {
	Kind, Source, Destination, Digest, Reason string

	Item     []string
	ExitCode int
	Tags     []struct{ Tag, Status string }
}

func copyLines(t *testing.T, out string) (all []copyLine) {
	t.Helper()
	for _, l := range lines(out) {
		var line copyLine
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		all = append(all, line)
	}
	return all
}

func TestCopyUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	lay, archive := "oci:"+w.path("lay"), "oci-archive:"+w.path("out.tar")
	list := w.file("list", lay+":1.0 "+archive+"\n")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{lay + ":1.0"}, "takes SRC DST"},
		{[]string{lay + ":1.0", archive, archive}, "is one too many"},
		{[]string{lay, archive, "--all-tags", "--tag", "x"}, "--all-tags and --tag exclude each other"},
		{[]string{lay, archive, "--match", "*", "--tag", "x"}, "--match and --tag exclude each other"},
		{[]string{lay, archive, "--match", "["}, `--match "[" is not a pattern`},
		{[]string{lay + ":1.0", archive, "--append", "--overwrite"}, "--append and --overwrite exclude"},
		{[]string{lay + ":1.0", "oci:" + w.path("out"), "--append"}, "nothing goes into an archive"},
		{[]string{lay + ":1.0", "oci:" + w.path("out"), "--overwrite"}, "nothing goes into an archive"},
		{[]string{lay + ":1.0", archive, "--referrers", "none", "--only-accepted"}, "--referrers none and --only-accepted"},
		{[]string{lay + ":1.0", archive, "--referrers", "none", "--chain", list}, "--referrers none and --chain"},
		{[]string{lay + ":1.0", archive, "--referrers", "none", "--downgrade"}, "--referrers none and --downgrade"},
		{[]string{lay + ":1.0", archive, "--only-accepted"}, "--only-accepted without a policy or a root"},
		{[]string{lay + ":1.0", archive, "--chain", w.path("absent")}, "absent"},
		{[]string{lay + ":1.0", archive, "--max-rate", "10"}, "--max-rate \"10\": it is bytes a second with their unit"},
		{[]string{lay + ":1.0", archive, "--shard", "0/2"}, "--shard without --batch"},
		{[]string{"--batch", list, "--shard", "2/2"}, "--shard \"2/2\": it is I/N"},
		{[]string{lay + ":1.0", "--map", "x"}, "it is FROM=TO"},
		{[]string{"--map", "a.example=b.example"}, "SRC… is missing"},
		{[]string{"--batch", list, "--map", "a.example=b.example"}, "line 1: 2 words, and 1 expected"},
		{[]string{lay + ":1.0", archive, "--tag", "a/b"}, `--tag "a/b" is not a tag`},
	} {
		got := w.want(3, append([]string{"copy"}, tt.args...)...)
		oneErrorOneHint(t, got)
		if !strings.Contains(got.err, tt.says) {
			t.Errorf("imprint copy %v: %s, want %q", tt.args, got.err, tt.says)
		}
	}
	for _, name := range []string{"out.tar", "out"} {
		if _, err := os.Stat(w.path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	// What the words mean does not come of the surroundings.
	w.setenv("IMPRINT_MAP", "a.example=b.example")
	w.setenv("IMPRINT_ALL_TAGS", "true")
	w.setenv("IMPRINT_APPEND", "true")
	w.want(0, "copy", lay+":1.0", "oci:"+w.path("out"))
}

// TestShardsOfEveryBatch: each item is in one shard, and the summary says of which it speaks.
func TestShardsOfEveryBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list strings.Builder
	for i := range 20 {
		name := fmt.Sprintf("v%d", i)
		w.image("lay", name, name)
		fmt.Fprintf(&list, "oci:%s:%s\n", w.path("lay"), name)
	}
	file := w.file("list", list.String())
	seen := 0
	for i := range 64 { // more shards than items: most have none
		got := w.want(0, "inspect", "--batch", file, "--shard", fmt.Sprintf("%d/64", i), "-o", "json")
		all := lines(got.out)
		seen += len(all) - 1
		if last := all[len(all)-1]; !strings.Contains(last, fmt.Sprintf(`"shard":"%d/64"`, i)) || !strings.Contains(last, fmt.Sprintf(`"items":%d,`, len(all)-1)) {
			t.Errorf("the summary is %s", last)
		}
	}
	if seen != 20 {
		t.Errorf("%d items in all shards, want 20", seen)
	}
	none := 0
	if (shard{0, 2}).has(item{"oci:a:1", "oci:b:1"}) {
		none = 1
	}
	if got := w.want(0, "copy", "--batch", w.file("pair", "oci:a:1 oci:b:1"), "--shard", fmt.Sprintf("%d/2", none)); got.out != fmt.Sprintf("nothing to do: 0 items of shard %d/2\n", none) {
		t.Errorf("%s", got.out)
	}
	for _, command := range [][]string{{"verify", "--root", "x"}, {"rechain", "--chain", "x"}, {"policy", "explain"}, {"tree"}} {
		if got := w.run(append(command, "--batch", file, "--shard", "3/2")...); got.code != 3 || !strings.Contains(got.err, "--shard") {
			t.Errorf("%v: %s", command, got.err)
		}
	}
}
