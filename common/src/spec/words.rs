//! Words of other systems, and what they are called here.

use std::borrow::Cow;

use crate::network::Loss;

/// `(their word, ours)`; theirs in lower case without `_` and `-`. Sources: the configuration pages of
/// Determined, Ray Tune, Katib, Optuna, Keras and PyTorch.
const FIELDS: &[(&str, &str)] = &[
    ("maxt", "`max_resource` here (in `scheduler`)"),
    (
        "maxlength",
        "`max_resource` here (in `scheduler`), and the length of a trial is `training.epochs`",
    ),
    ("reductionfactor", "`eta` here (in `scheduler`)"),
    ("divisor", "`eta` here (in `scheduler`)"),
    ("graceperiod", "`min_resource` here (in `scheduler`)"),
    ("numsamples", "`max_trials` here (in `searcher`)"),
    ("numtrials", "`max_trials` here (in `searcher`)"),
    ("ntrials", "`max_trials` here (in `searcher`)"),
    ("maxtrialcount", "`max_trials` here (in `searcher`)"),
    ("maxtrials", "`searcher.max_trials` here"),
    (
        "paralleltrialcount",
        "`max_concurrent_trials` here (in `searcher`)",
    ),
    (
        "maxconcurrent",
        "`max_concurrent_trials` here (in `searcher`)",
    ),
    (
        "maxconcurrenttrials",
        "`searcher.max_concurrent_trials` here",
    ),
    ("timebudgets", "`max_time` here (in `searcher`, in seconds)"),
    ("timeout", "`max_time` here (in `searcher`, in seconds)"),
    ("maxfailedtrialcount", "`max_failed_trials` here"),
    ("maxfailures", "`max_restarts` here"),
    ("backofflimit", "`max_restarts` here"),
    ("maxretries", "`max_restarts` here"),
    ("maxretry", "`max_restarts` here"),
    ("podfailurepolicy", "`failure_policy` here"),
    ("onfailure", "`failure_policy` here"),
    ("restartpolicy", "`failure_policy` and `max_restarts` here"),
    ("retrystrategy", "`failure_policy` and `retry_backoff` here"),
    ("backoff", "`retry_backoff` here"),
    ("oom", "`out_of_memory` here (in `failure_policy`)"),
    (
        "smallerisbetter",
        "`mode: minimize` or `mode: maximize` here (in `objectives`)",
    ),
    ("direction", "`mode` here (in `objectives`)"),
    ("perturbationinterval", "`interval` here (in `scheduler`)"),
    (
        "perturbationfactors",
        "`perturb_factors` here (in `scheduler`)",
    ),
    ("quantilefraction", "`quantile` here (in `scheduler`)"),
    (
        "initialconfigs",
        "`points_to_evaluate` here (in `searcher`)",
    ),
    ("objective", "`objectives` here: a list of {metric, mode}"),
    ("objectivemetricname", "`metric` here (in `objectives`)"),
    ("metric", "`objectives: [{metric, mode}]` here"),
    ("mode", "`objectives: [{metric, mode}]` here"),
    ("parameters", "`hyperparameters` here"),
    ("paramspace", "`hyperparameters` here"),
    ("searchspace", "`hyperparameters` here"),
    ("config", "`hyperparameters` here"),
    ("batchsize", "`training.batch_size` here"),
    ("globalbatchsize", "`training.batch_size` here"),
    ("epochs", "`training.epochs` here"),
    ("numepochs", "`training.epochs` here"),
    ("maxepochs", "`training.epochs` here"),
    ("loss", "`training.loss` here"),
    ("optimizer", "`training.optimizer` here"),
    ("metrics", "`training.metrics` here"),
    (
        "learningrate",
        "`learning_rate` here, in the optimizer: `training.optimizer.adam.learning_rate`",
    ),
    (
        "lr",
        "`learning_rate` here, in the optimizer: `training.optimizer.adam.learning_rate`",
    ),
    ("eps", "`epsilon` here"),
    ("betas", "`beta1` and `beta2` here"),
    ("lrscheduler", "`training.schedule` here"),
    ("learningratescheduler", "`training.schedule` here"),
    (
        "scheduler",
        "`training.schedule` here for the learning rate",
    ),
    ("warmupsteps", "`training.warmup: {steps: ..}` here"),
    (
        "clipvalue",
        "`training.gradient_clipping: {value: ..}` here",
    ),
    (
        "clipnorm",
        "`training.gradient_clipping: {global_norm: ..}` here",
    ),
    (
        "globalclipnorm",
        "`training.gradient_clipping: {global_norm: ..}` here",
    ),
    (
        "maxgradnorm",
        "`training.gradient_clipping: {global_norm: ..}` here",
    ),
    (
        "gradientclipval",
        "`training.gradient_clipping: {global_norm: ..}` here",
    ),
    ("ema", "`training.average: {ema: {decay: ..}}` here"),
    ("useema", "`training.average: {ema: {decay: ..}}` here"),
    (
        "accumulatesteps",
        "not needed: `batch_size` is all of a step's samples, computed in `virtual_shards` parts whose gradients are added up",
    ),
    (
        "accumulategradbatches",
        "not needed: `batch_size` is all of a step's samples, computed in `virtual_shards` parts whose gradients are added up",
    ),
    (
        "gradientaccumulationsteps",
        "not needed: `batch_size` is all of a step's samples, computed in `virtual_shards` parts whose gradients are added up",
    ),
    ("tmax", "`period` here"),
    ("etamin", "`min_lr` here"),
    ("tmult", "`period_factor` here"),
    ("maxlr", "the optimizer's `learning_rate` here"),
    ("monitor", "`metric` here"),
    ("threshold", "`min_delta` here"),
    (
        "lrdecay",
        "`training.schedule` here: a rate that falls with the steps",
    ),
    ("layers", "`model.layers` here"),
    ("algorithm", "`searcher` here"),
    ("slots", "`resources.slots_per_trial` here"),
    ("slotspertrial", "`resources.slots_per_trial` here"),
    (
        "gpus",
        "`device: cuda` here (in `resources`), and of how many GPUs `slots_per_trial`",
    ),
    (
        "numgpus",
        "`device: cuda` here (in `resources`), and of how many GPUs `slots_per_trial`",
    ),
    ("device", "`resources.device` here"),
    ("validationsplit", "`split.validation` here"),
    ("testsplit", "`split.test` here"),
    ("scaling", "`preprocess.scaling` here"),
    ("min", "`minval` here"),
    ("max", "`maxval` here"),
    ("low", "`minval` here"),
    ("high", "`maxval` here"),
    ("lower", "`minval` here"),
    ("upper", "`maxval` here"),
    ("values", "`vals` here"),
    ("choices", "`vals` here"),
    ("list", "`vals` here"),
    ("value", "`val` here"),
    ("default", "not there: a search draws every value"),
    (
        "base",
        "not there: `log: true` takes `minval` and `maxval` as they are, not as exponents",
    ),
    ("q", "`step` here"),
    ("condition", "`when` here"),
    ("kernelsize", "`kernel` here"),
    ("poolsize", "`size` here"),
    ("strides", "`stride` here"),
    ("dilationrate", "`dilation` here"),
    ("ceilmode", "`ceil` here"),
    ("scalefactor", "`size` here"),
    ("keepdim", "`keep_dims` here"),
    ("outputsize", "`size` here"),
    ("countincludepad", "`count_padding` here"),
    (
        "depthmultiplier",
        "`groups` here: as many as channels, and as many `filters` as multiplied",
    ),
    ("outchannels", "`filters` here"),
    ("outfeatures", "`units` here"),
    ("inchannels", "not needed: it follows from the layer before"),
    ("infeatures", "not needed: it follows from the layer before"),
    ("inputshape", "`data.shape` here"),
    ("bias", "`use_bias` here"),
    ("p", "`rate` here"),
    ("negativeslope", "`alpha` here"),
    ("std", "`stddev` here"),
    (
        "kernelregularization",
        "`kernel_regularizer` here: {l1: .., l2: ..}",
    ),
    ("regularizer", "`kernel_regularizer` here: {l1: .., l2: ..}"),
    ("l2regularization", "`kernel_regularizer: {l2: ..}` here"),
    ("l1regularization", "`kernel_regularizer: {l1: ..}` here"),
    ("sigma", "`stddev` here"),
    ("checkpoint", "`checkpoint_storage` here"),
    (
        "savetrialbest",
        "`keep_best` here (in `checkpoint_storage`)",
    ),
    (
        "savetriallatest",
        "`keep_last` here (in `checkpoint_storage`)",
    ),
    ("numtokeep", "`keep_last` here (in `checkpoint_storage`)"),
    ("hostpath", "`url` here, with `file://`"),
    ("env", "`environment` here"),
    ("cwd", "`working_directory` here"),
    ("workdir", "`working_directory` here"),
    ("virtualenv", "`venv` here"),
    ("pip", "`requirements` here"),
    ("randomstate", "`seed` here"),
    ("randomseed", "`seed` here"),
    ("sep", "`delimiter` here"),
    ("path", "`url` here"),
    ("file", "`url` here"),
    ("label", "`targets` here: a list of columns"),
    ("target", "`targets` here: a list of columns"),
];

const VALUES: &[(&str, &str)] = &[
    (
        "log",
        "`type: double` with `log: true` here; `minval` and `maxval` are the values, not exponents",
    ),
    ("loguniform", "`type: double` with `log: true` here"),
    ("uniform", "`type: double` here"),
    ("float", "`double` here"),
    ("integer", "`int` here"),
    ("randint", "`int` here"),
    ("choice", "`categorical` here"),
    ("discrete", "`categorical` here"),
    ("constant", "`const` here"),
    ("min", "`minimize` here"),
    ("max", "`maximize` here"),
    ("conv", "`conv2d` here"),
    (
        "depthwiseconv2d",
        "`conv2d` here, with as many `groups` as channels",
    ),
    ("linear", "`dense` here"),
    ("fc", "`dense` here"),
    ("maxpooling2d", "`max_pool2d` here"),
    ("maxpooling1d", "`max_pool1d` here"),
    ("averagepooling1d", "`avg_pool1d` here"),
    ("globalaveragepooling2d", "`global_avg_pool2d` here"),
    ("globalmaxpooling2d", "`global_max_pool2d` here"),
    ("globalaveragepooling1d", "`global_avg_pool1d` here"),
    ("globalaveragepooling3d", "`global_avg_pool3d` here"),
    ("globalmaxpooling1d", "`global_max_pool1d` here"),
    ("globalmaxpooling3d", "`global_max_pool3d` here"),
    ("hardsilu", "`hard_swish` here"),
    ("averagepooling2d", "`avg_pool2d` here"),
    ("convtranspose2d", "`conv2d_transpose` here"),
    ("deconv2d", "`conv2d_transpose` here"),
    ("upsample", "`upsampling2d` here"),
    ("zeropad2d", "`zero_padding2d` here"),
    ("resizing", "`resize2d` here"),
    ("batchnormalization", "`batch_norm` here"),
    ("batchnorm2d", "`batch_norm` here"),
    ("layernormalization", "`layer_norm` here"),
    ("groupnormalization", "`group_norm` here"),
    ("instancenorm2d", "`instance_norm` here"),
    ("multiheadattention", "`multi_head_attention` here"),
    ("numheads", "`heads` here"),
    ("inputdim", "`vocabulary` here (in `embedding`)"),
    ("numembeddings", "`vocabulary` here (in `embedding`)"),
    ("outputdim", "`dimensions` here (in `embedding`)"),
    ("embeddingdim", "`dimensions` here (in `embedding`)"),
    (
        "positionembedding",
        "`positional_encoding: {kind: learned}` here",
    ),
    ("simplernn", "`simple_rnn` here"),
    ("rnn", "`simple_rnn` here"),
    ("mergemode", "`merge` here"),
    ("masking", "`mask_value` of the recurrent layers here"),
    ("transpose", "`permute` here"),
    ("relu", "`activation: {function: relu}` here"),
    ("softmax", "`activation: {function: softmax}` here"),
    ("leakyrelu", "`activation: {function: leaky_relu}` here"),
    ("thresholdedrelu", "`threshold` here"),
    ("hardsigmoid", "`hard_sigmoid` here"),
    ("logsoftmax", "`log_softmax` here"),
    ("heaviside", "`step` here"),
    ("binarystep", "`step` here"),
    ("exp", "`exponential` here"),
    ("dropout1d", "`spatial_dropout` here"),
    ("dropout2d", "`spatial_dropout` here"),
    ("dropout3d", "`spatial_dropout` here"),
    ("spatialdropout1d", "`spatial_dropout` here"),
    ("spatialdropout2d", "`spatial_dropout` here"),
    ("spatialdropout3d", "`spatial_dropout` here"),
    ("adamax", "not there; `adam` is nearest"),
    ("steplr", "`step` here"),
    ("multisteplr", "`step` with `milestones` here"),
    ("exponentiallr", "`exponential` here"),
    ("cosineannealinglr", "`cosine` here"),
    ("cosinedecay", "`cosine` here"),
    (
        "cosineannealingwarmrestarts",
        "`cosine` with `restarts: true` here",
    ),
    ("onecyclelr", "`one_cycle` here"),
    ("polynomiallr", "`polynomial` here"),
    ("polynomialdecay", "`polynomial` here"),
    (
        "linear",
        "`dense` here among layers, `polynomial` among schedules",
    ),
    ("reducelronplateau", "`plateau` here"),
    ("sgdm", "`sgd` with `momentum` here"),
    ("momentum", "`sgd` with `momentum` here"),
    (
        "nesterov",
        "`sgd` with `momentum` and `nesterov: true` here",
    ),
    ("amsgrad", "`adam` with `amsgrad: true` here"),
    ("gpu", "`cuda` here"),
    (
        "ignore",
        "`fail_trial` here: that trial fails, and the search goes on",
    ),
    ("count", "`retry` here"),
    ("failindex", "`fail_trial` here"),
    ("never", "`fail_trial` here"),
    ("onfailure", "`retry` here"),
    ("single", "`random` with `max_trials: 1` here"),
    ("randomsearch", "`random` here"),
    ("gridsearch", "`grid` here"),
    ("bayesian", "`gp` here (or `auto`)"),
    ("bayes", "`gp` here (or `auto`)"),
    ("bayesopt", "`gp` here (or `auto`)"),
    ("botorch", "`gp` here (or `auto`)"),
    ("skopt", "`gp` here (or `auto`)"),
    ("hyperopt", "`tpe` here (or `auto`)"),
    ("optuna", "`tpe` here (or `auto`)"),
    ("tpemultivariate", "`tpe` here"),
    ("multivariatetpe", "`tpe` here"),
    ("cma", "`cma_es` here"),
    ("cmaes", "`cma_es` here"),
    ("nsgaii", "`nsga2` here"),
    ("qmc", "`sobol` here"),
    ("quasirandom", "`sobol` here"),
    ("successivehalving", "`sha` here, or `asha`"),
    ("asynchyperbandscheduler", "`async_hyperband` here"),
    ("median", "`median_stopping` here"),
    ("medianstop", "`median_stopping` here"),
    ("medianstoppingrule", "`median_stopping` here"),
    ("populationbasedtraining", "`pbt` here"),
    ("normalize", "`min_max` or `standard` here"),
    ("zscore", "`standard` here"),
];

/// What a field of another system is called here.
pub(super) fn field(word: &str) -> Option<&'static str> {
    find(FIELDS, word)
}

/// What a value of another system is called here.
pub(super) fn value(word: &str) -> Option<Cow<'static, str>> {
    let plain = plain(word);
    if let Some(ours) = find(VALUES, word) {
        return Some(ours.into());
    }
    let kind = Loss::KINDS
        .iter()
        .find(|kind| kind.also.contains(&&*plain))?;
    Some(format!("`{}` here", kind.word).into())
}

fn find(table: &[(&str, &'static str)], word: &str) -> Option<&'static str> {
    let plain = plain(word);
    table
        .iter()
        .find(|(theirs, _)| *theirs == plain)
        .map(|(_, ours)| *ours)
}

fn plain(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}
