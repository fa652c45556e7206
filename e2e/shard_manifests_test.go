package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What of Kubernetes' API the manifests use: a name that is not here is a misspelling, or belongs here.
type (
	manifestMeta struct {
		Name   string
		Labels map[string]string
	}
	manifestJob struct {
		CompletionMode           string `yaml:"completionMode"`
		Completions, Parallelism int
		BackoffLimitPerIndex     *int             `yaml:"backoffLimitPerIndex"`
		PodFailurePolicy         manifestFailures `yaml:"podFailurePolicy"`
		Deadline                 int              `yaml:"activeDeadlineSeconds"`
		TTL                      int              `yaml:"ttlSecondsAfterFinished"`
		Template                 struct {
			Metadata manifestMeta
			Spec     manifestPod
		}
	}
	manifestFailures struct {
		Rules []struct {
			Action          string
			OnPodConditions []struct{ Type, Status string } `yaml:"onPodConditions"`
			OnExitCodes     struct {
				ContainerName string `yaml:"containerName"`
				Operator      string
				Values        []int
			} `yaml:"onExitCodes"`
		}
	}
	manifestPod struct {
		RestartPolicy   string `yaml:"restartPolicy"`
		AutomountToken  *bool  `yaml:"automountServiceAccountToken"`
		ServiceLinks    *bool  `yaml:"enableServiceLinks"`
		SecurityContext struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			RunAsUser      int                   `yaml:"runAsUser"`
			RunAsGroup     int                   `yaml:"runAsGroup"`
			FSGroup        int                   `yaml:"fsGroup"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []manifestContainer
		Volumes    []manifestVolume
	}
	manifestContainer struct {
		Name, Image string
		Args        []string
		Env         []struct{ Name, Value string }
		Resources   struct{ Requests, Limits map[string]string }
		Security    struct {
			AllowPrivilegeEscalation *bool                   `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool                    `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string } `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	manifestVolume struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
		Secret    struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode int    `yaml:"defaultMode"`
			Items       []struct{ Key, Path string }
		}
		EmptyDir struct {
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
	}
	manifestObject[T any] struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   manifestMeta
		Spec       T
	}
	manifestCron struct {
		Schedule          string
		TimeZone          string `yaml:"timeZone"`
		ConcurrencyPolicy string `yaml:"concurrencyPolicy"`
		StartingDeadline  int    `yaml:"startingDeadlineSeconds"`
		Successful        int    `yaml:"successfulJobsHistoryLimit"`
		Failed            int    `yaml:"failedJobsHistoryLimit"`
		JobTemplate       struct {
			Metadata manifestMeta
			Spec     manifestJob
		} `yaml:"jobTemplate"`
	}
	kustomization struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Resources  []string
		Images     []struct {
			Name    string
			NewName string `yaml:"newName"`
			NewTag  string `yaml:"newTag"`
		}
		ConfigMaps []struct {
			Name  string
			Files []string
		} `yaml:"configMapGenerator"`
	}
)

const manifests = "../deploy/kubernetes"

// manifest reads one file of deploy/kubernetes strictly.
func manifest[T any](t *testing.T, name string) (v T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(manifests, name))
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Fatalf("%s holds more than one document: %v", name, err)
	}
	return v
}

// TestShardManifests: what deploy/kubernetes says runs. Each container's arguments, with the files that are mounted, do
// their share of the list against registries in this process, first with --dry-run; together they do all of it.
func TestShardManifests(t *testing.T) {
	t.Parallel()
	k := manifest[kustomization](t, "kustomization.yaml")
	job := manifest[manifestObject[manifestJob]](t, "job.yaml")
	cron := manifest[manifestObject[manifestCron]](t, "cronjob.yaml")
	if job.APIVersion != "batch/v1" || job.Kind != "Job" || cron.APIVersion != "batch/v1" || cron.Kind != "CronJob" || cron.Spec.ConcurrencyPolicy != "Forbid" {
		t.Errorf("%s %s, %s %s", job.APIVersion, job.Kind, cron.APIVersion, cron.Kind)
	}
	if !slices.Equal(k.Resources, []string{"job.yaml", "cronjob.yaml"}) {
		t.Errorf("the kustomization has %v", k.Resources)
	}
	for _, tt := range []struct {
		name string
		spec manifestJob
		want []string // tags at the destination
	}{
		{"job", job.Spec, []string{"vendor/db/server:16.4", "vendor/db/client:16.4", "vendor/web/proxy:2.9.1"}},
		{"cronjob", cron.Spec.JobTemplate.Spec, []string{"vendor/db/server:16.4", "vendor/db/server:17.0", "vendor/web/proxy:2.9.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hardened(t, tt.spec)
			c := newCluster(t, k)
			for i := range tt.spec.Completions {
				c.index(t, tt.spec, i, "--dry-run")
			}
			if n := c.dest.Writes(); n != 0 {
				t.Fatalf("%d writes of dry runs", n)
			}
			items := 0
			for i := range tt.spec.Completions {
				items += c.index(t, tt.spec, i)
			}
			if items != len(tt.want) {
				t.Errorf("%d items in all shards, want %d", items, len(tt.want))
			}
			for _, name := range tt.want {
				there, err := fixture.WalkManifests(t.Context(), c.dest.Host+"/"+name)
				if err != nil || there.Referrers() != 1 {
					t.Errorf("%s: %d referrers, %v", name, there.Referrers(), err)
				}
			}
		})
	}
}

// hardened wants a job that needs no rights, and retries what is worth it.
func hardened(t *testing.T, spec manifestJob) {
	t.Helper()
	pod := spec.Template.Spec
	if spec.CompletionMode != "Indexed" || spec.BackoffLimitPerIndex == nil || spec.Completions < 2 || len(spec.PodFailurePolicy.Rules) != 2 ||
		pod.RestartPolicy != "Never" { // backoffLimitPerIndex and podFailurePolicy ask for that
		t.Errorf("it is no Indexed Job that retries each index: %+v", spec)
	}
	if on := spec.PodFailurePolicy.Rules[1].OnExitCodes; on.ContainerName != pod.Containers[0].Name || !slices.Equal(on.Values, []int{1, 3, 5}) {
		t.Errorf("it does not go by the exit codes: %+v", on)
	}
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	c := pod.Containers[0]
	switch {
	case !pod.SecurityContext.RunAsNonRoot, pod.SecurityContext.RunAsUser == 0, pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault",
		pod.AutomountToken == nil || *pod.AutomountToken, !c.Security.ReadOnlyRootFilesystem,
		c.Security.AllowPrivilegeEscalation == nil || *c.Security.AllowPrivilegeEscalation, !slices.Equal(c.Security.Capabilities.Drop, []string{"ALL"}):
		t.Errorf("it may do more than it needs: %+v %+v", pod, c)
	case c.Resources.Requests["cpu"] == "", c.Resources.Requests["memory"] == "", c.Resources.Limits["memory"] == "":
		t.Errorf("its resources are %+v", c.Resources)
	case !slices.Contains(c.Args, fmt.Sprintf("--shard=$(JOB_COMPLETION_INDEX)/%d", spec.Completions)):
		t.Errorf("%d completions, and %v", spec.Completions, c.Args)
	}
}

// A cluster is what Kubernetes would give to a container: the mounted files, and two registries behind the names in them.
type cluster struct {
	*person
	source, dest *regtest.Server
	maps         map[string][]string // files by ConfigMap
	chain        []byte
	hosts        *strings.Replacer
}

func newCluster(t *testing.T, k kustomization) *cluster {
	t.Helper()
	c := &cluster{person: newPerson(t), source: regtest.New(t, regtest.WithAPI), dest: regtest.New(t, regtest.WithAPI), maps: map[string][]string{}}
	c.hosts = strings.NewReplacer("vendor.example", c.source.Host, "harbor.acme.example", c.dest.Host)
	for _, m := range k.ConfigMaps {
		c.maps[m.Name] = m.Files
	}
	key, chain := certtest.ChainOf(3, "P-256")
	c.chain = certtest.PEM(chain[2])
	names := []string{"db/server:16.4", "db/server:17.0", "db/server:nightly", "db/client:16.4", "web/proxy:2.9.1"}
	_, err := fixture.Many(t.Context(), len(names), func(i int) string { return c.source.Host + "/" + names[i] }, fixture.Options{Key: key, Chain: chain, Layer: 64})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mount makes a volume as the kubelet does, files of ConfigMaps and secrets being links to links, and returns where it is.
func (c *cluster) mount(t *testing.T, v manifestVolume) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), v.Name)
	now := filepath.Join(dir, "..2026_11_22")
	if err := errors.Join(os.MkdirAll(now, 0o755), os.Symlink("..2026_11_22", filepath.Join(dir, "..data"))); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		err := errors.Join(os.WriteFile(filepath.Join(now, name), []byte(text), 0o600), os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
		if err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case v.ConfigMap.Name != "":
		if c.maps[v.ConfigMap.Name] == nil {
			t.Fatalf("the kustomization makes no ConfigMap %s", v.ConfigMap.Name)
		}
		for _, name := range c.maps[v.ConfigMap.Name] {
			b := c.chain
			if name != "root.pem" { // the one file that is not in the repository
				var err error
				if b, err = os.ReadFile(filepath.Join(manifests, name)); err != nil {
					t.Fatal(err)
				}
			}
			// In a policy a host with a port is quoted.
			text := strings.ReplaceAll(string(b), "  vendor.example:", fmt.Sprintf("  %q:", c.source.Host))
			write(name, c.hosts.Replace(text))
		}
	case v.Secret.SecretName != "":
		if len(v.Secret.Items) != 1 || v.Secret.Items[0].Key != ".dockerconfigjson" || v.Secret.Items[0].Path != "config.json" {
			t.Errorf("the secret's files are %+v", v.Secret.Items)
		}
		write(v.Secret.Items[0].Path, `{"auths":{}}`)
	case v.EmptyDir.SizeLimit == "":
		t.Errorf("volume %s is of no kind", v.Name)
	}
	return dir
}

// index runs the container of one completion, and returns how many items it did.
func (c *cluster) index(t *testing.T, spec manifestJob, i int, more ...string) int {
	t.Helper()
	pod := spec.Template.Spec
	container := pod.Containers[0]
	paths := []string{"$(JOB_COMPLETION_INDEX)", fmt.Sprint(i)}
	for _, m := range container.VolumeMounts {
		at := slices.IndexFunc(pod.Volumes, func(v manifestVolume) bool { return v.Name == m.Name })
		if at < 0 {
			t.Fatalf("there is no volume %s", m.Name)
		}
		paths = append(paths, m.MountPath, c.mount(t, pod.Volumes[at]))
	}
	here := strings.NewReplacer(paths...)
	p := *c.person
	p.env = nil
	for _, e := range container.Env {
		p.env = append(p.env, e.Name+"="+here.Replace(e.Value))
	}
	var args []string
	for _, a := range container.Args {
		args = append(args, c.hosts.Replace(here.Replace(a)))
	}
	o := p.run(t, append(args, more...)...)
	if o.code != 0 || strings.Contains(o.stderr, "warning") {
		t.Fatalf("index %d: imprint %s: exit %d\n%s%s", i, strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	if got := o.field(t, "shard"); got != fmt.Sprintf("%d/%d", i, spec.Completions) {
		t.Errorf("index %d did shard %s", i, got)
	}
	var done int
	if _, err := fmt.Sscan(o.field(t, "done"), &done); err != nil {
		t.Error(err)
	}
	return done
}
