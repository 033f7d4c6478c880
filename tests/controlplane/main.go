// Command controlplane is a whole Kubernetes control plane in one binary, for
// tests: the first argument names the component, the rest are its own flags.
//
// One binary instead of six, because the components share nearly all of their
// code: it links once and is a fraction of the size of six.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	_ "time/tzdata" // CronJob time zones work without the machine's database

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"go.etcd.io/etcd/server/v3/etcdmain"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
	metricsoptions "sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
)

var components = map[string]func(){
	"etcd":                func() { etcdmain.Main(os.Args) },
	"apiserver":           func() { run(apiserver.NewAPIServerCommand()) },
	"controller-manager":  func() { run(controllermanager.NewControllerManagerCommand()) },
	"scheduler":           func() { run(scheduler.NewSchedulerCommand()) },
	"kwok":                runKwok,
	"metrics-server":      runMetricsServer,
	"metrics-server-fast": runMetricsServerFast,
	"kubectl":             runKubectl,
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		names := make([]string, 0, len(components))
		for name := range components {
			names = append(names, name)
		}
		slices.Sort(names)
		fail(fmt.Errorf("usage: controlplane COMPONENT [FLAGS]\ncomponents: %s", strings.Join(names, ", ")))
	}
	if os.Getenv("CONTROLPLANE_EXIT_WITH_STDIN") != "" {
		go exitWithStdin()
	}
	component := os.Args[1]
	// Each component parses os.Args itself and must find its own flags there.
	os.Args = append([]string{component}, os.Args[2:]...)
	components[component]()
}

// exitWithStdin ends the process when its standard input closes. A test holds
// the other end of that pipe, so nothing outlives it however it dies: no signal
// handler runs after SIGKILL, but the kernel still closes the pipe.
func exitWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func run(command *cobra.Command) { os.Exit(cli.Run(command)) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// runKwok is kwok's own main. The global flag set is replaced first: Kubernetes
// puts a --version that is no bool on it, cobra merges it into kwok's command,
// and kwok then dies of `"version" flag declared as non-bool`.
func runKwok() {
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}

	ctx, _ := kwoklog.InitFlags(genericapiserver.SetupSignalContext(), flags)
	ctx, err := kwokconfig.InitFlags(ctx, flags)
	if err != nil {
		fail(fmt.Errorf("kwok: read the configuration: %w", err))
	}
	command := kwok.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	if err := command.ExecuteContext(ctx); err != nil {
		fail(fmt.Errorf("kwok: %w", err))
	}
}

func runMetricsServer() {
	logs.InitLogs()
	defer logs.FlushLogs()
	if err := metricsserver.NewMetricsServerCommand(genericapiserver.SetupSignalHandler()).Execute(); err != nil {
		fail(fmt.Errorf("metrics-server: %w", err))
	}
}

// runMetricsServerFast leaves out the validation that refuses a resolution
// below ten seconds; everything else is the real metrics-server.
func runMetricsServerFast() {
	logs.InitLogs()
	defer logs.FlushLogs()
	opts := metricsoptions.NewOptions()
	flags := pflag.NewFlagSet("metrics-server-fast", pflag.ExitOnError)
	for _, set := range opts.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(os.Args[1:]); err != nil {
		fail(fmt.Errorf("metrics-server-fast: %w", err))
	}
	config, err := opts.ServerConfig()
	if err != nil {
		fail(fmt.Errorf("metrics-server-fast: %w", err))
	}
	server, err := config.Complete()
	if err != nil {
		fail(fmt.Errorf("metrics-server-fast: %w", err))
	}
	if err := server.RunUntil(genericapiserver.SetupSignalHandler()); err != nil {
		fail(fmt.Errorf("metrics-server-fast: %w", err))
	}
}

func runKubectl() {
	logs.GlogSetter(kubectlcmd.GetLogVerbosity(os.Args)) //nolint:errcheck // a bad -v is reported by the command itself
	if err := cli.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
