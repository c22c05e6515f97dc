"""Codes GL301-GL405: specs that would fail, or give a misleading result, once they run."""

from __future__ import annotations

from gridloom.compiler.codes.code import HEAD, Code, Example, over
from gridloom.compiler.device_speeds import DeviceSpeeds

_SMALL = DeviceSpeeds("cpu", memory_bytes=10**7, flops_per_s={"fp32": 1e11, "bf16": 1e11})
_LARGE = DeviceSpeeds("cpu", memory_bytes=10**11, flops_per_s={"fp32": 1e11, "bf16": 1e11})
_TWO = "models:\n  wide: {kind: trm, hidden_size: 256, num_heads: 4}\n"
_LLAMA2 = "models:\n  other: {kind: llama, weights: ./llama}\n"
_NEW = "data:\n  more: {kind: arc, source: ./my-tasks, subsets: [hard], holdout: [hard], check_demos: 1, canvas: %s}\n"
_THIRD = "models: {b2: {kind: latent_to_text, trm: trm, llm: llama}}\n"
_OPEN = "data: {open: {kind: arc, subsets: [training], holdout: [%s], canvas: 11}}\n"
_TWICE = (
    "data: {arc2: {kind: arc, subsets: [%s], holdout: [evaluation], canvas: 11}}\n"
    "stages: {given: {kind: checkpoint, path: ./trained}, judge: {kind: evaluate, with: given, data: arc2}}\n"
)
_PARTS = "data: {arc1: {source: ./my-tasks, subsets: [%s], holdout: [hard]}}\n"
_PUZZLES = (
    "data: {%s: {kind: %s}}\nmodels: {small: {kind: trm, hidden_size: 64, num_heads: 4}}\n"
    "stages: {puzzles: {kind: train, model: %s, data: %s}}\n"
)
_LINE = (
    "data: {words: {kind: copy}}\nmodels: {small: {kind: trm, hidden_size: 64, num_heads: 4, positions: %s}}\n"
    "stages: {puzzles: {kind: train, model: small, data: words}}\n"
)
_LONE = (
    "data: {sums: {kind: addition, numbers: %d}}\nmodels: {small: {kind: trm, hidden_size: 64, num_heads: 4}}\n"
    "stages: {learn: {kind: train, model: small, data: sums}}\n"
)
_SECRET = "data: {arc1: {source: ./unanswered, subsets: [hard], holdout: [hard]}}\n"
_JUDGED = (
    "data: {sudokus: {kind: sudoku, size: 4, apart: cells, %s}}\n"
    "models: {small: {kind: trm, hidden_size: 64, num_heads: 4}}\n"
    "stages: {learn: {kind: train, model: small, data: sudokus}, "
    "judge: {kind: evaluate, with: learn, data: sudokus}}\n"
)

_KNOWN = "stages:\n  measure: {kind: calibrate, attempts: solve}\n"

CHECKING = (
    Code(
        "GL301", "heads do not divide the width",
        "`hidden_size` is not a multiple of `num_heads`.",
        "Each head takes an equal share of the width.",
        over("models: {trm: {num_heads: 5}}\n"), over("models: {trm: {num_heads: 8}}\n"),
    ),
    Code(
        "GL302", "odd heads with rope",
        "Rotary positions turn pairs of features (`rope`), or a pair for each of two axes (`rope_2d`), and the width "
        "of a head is not a multiple of that.",
        "The last features of each head would have no partner.",
        over("models: {trm: {hidden_size: 36, num_heads: 4}}\n"),
        over("models: {trm: {hidden_size: 40, num_heads: 4}}\n"),
    ),
    Code(
        "GL303", "settings that exclude one another",
        "A model has settings that exclude one another, such as an adapter of two forms.",
        "One of them would be ignored.",
        over("models: {bridge: {mode: cross_attention, projection: linear}}\n"),
        over("models: {bridge: {mode: cross_attention}}\n"),
    ),
    Code(
        "GL304", "too few prefix positions for the view",
        "`puzzle_embedding: task_view` fills eleven prefix positions: the task's row, the view's turn and nine "
        "colours.",
        "The network would have no input for the colours of the view.",
        over("models: {trm: {puzzle_embedding: task_view, puzzle_embedding_len: 1}}\n"),
        over("models: {trm: {puzzle_embedding: task_view, puzzle_embedding_len: 11}}\n"),
    ),
    Code(
        "GL305", "square positions for rows that are not square",
        "`positions: rope_2d` or `sinusoid_2d` counts rows and columns of a square canvas, and the data has tokens in "
        "a line.",
        "Training would stop at its start.",
        over(_LINE % "rope_2d"),
        over(_LINE % "rope"),
    ),
    Code(
        "GL306", "canvases for a network of one canvas",
        "`canvases` lays tasks on squares of several sizes, and a weight of the network or an adapter belongs to a "
        "position of one of them.",
        "The flat order of cells means something else on every canvas, so what is learnt on one fails on another.",
        over("data: {arc1: {canvases: [7]}}\nstages: {joint: null, solve: {with: pretrain}}\n"),
        over("data: {arc1: {canvases: [7]}}\nmodels: {trm: {positions: rope_2d}}\n"
             "stages: {joint: null, solve: {with: pretrain}}\n"),
    ),
    Code(
        "GL310", "adapter for another TRM",
        "An adapter was made for one TRM, and the stage trains another.",
        "Its weights have the shape of the one it names. The message gives both widths and where they were written.",
        over(_TWO + "stages: {pretrain: {model: wide}}\n"),
        over(_TWO + "  bridge: {trm: wide}\n  back: {trm: wide}\nstages: {pretrain: {model: wide}}\n"),
    ),
    Code(
        "GL311", "adapter for another language model",
        "An adapter was made for one language model, and the stage runs another.",
        "Its weights have the shape of the one it names.",
        over(_LLAMA2 + "stages: {joint: {llm: other}}\n"),
        over(_LLAMA2 + "  bridge: {llm: other}\n  back: {llm: other}\nstages: {joint: {llm: other}}\n"),
    ),
    Code(
        "GL312", "not one text_to_latent",
        "A joint stage has no text_to_latent adapter, or several.",
        "Through it the language model's state reaches the TRM; with none the two are not joined.",
        over("stages: {joint: {adapters: [back]}}\n"), over("stages: {joint: {adapters: [bridge]}}\n"),
    ),
    Code(
        "GL313", "several latent_to_text",
        "A joint stage has more than one latent_to_text adapter.",
        "The next attempt reads one latent prefix.",
        over(_THIRD + "stages: {joint: {adapters: [bridge, back, b2]}}\n"),
        over("stages: {joint: {adapters: [bridge, back]}}\n"),
    ),
    Code(
        "GL314", "language model not frozen",
        "A language model has `frozen: false`, and a joint stage runs it.",
        "Joint training changes adapters, TRM and low-rank additions to the language model (`lora`); its own weights "
        "would stay as they are, whatever the spec promises.",
        over("models: {llama: {frozen: false}}\n"), over("models: {llama: {lora: {rank: 8}}}\n"),
    ),
    Code(
        "GL315", "lora without its training",
        "A solve stage runs a language model alone, and the model has `lora`.",
        "Additions are trained by `joint_train` and lie in its checkpoint; beside a bare model they would be fresh, "
        "which changes nothing. The model's own weights answer.",
        over("models: {llama: {lora: {rank: 8}}}\nstages: {solve: {with: llama}}\n"),
        over("stages: {solve: {with: llama}}\n"), severity="warning",
    ),
    Code(
        "GL316", "proposer without its model",
        "The proposer of a solve stage needs a checkpoint and `with` names a language model or nothing; or vice versa.",
        "It would have nothing to propose with. `auto` takes the proposer that fits `with`.",
        over("stages: {solve: {solver: {proposer: text}}}\n"), over("stages: {solve: {solver: {proposer: trm}}}\n"),
    ),
    Code(
        "GL320", "canvas too small",
        "The largest visible grid of the dataset is larger than its canvas.",
        "Such a grid could not be represented without losing cells.",
        over("data: {arc1: {canvas: 6}}\n"), over("data: {arc1: {canvas: 12}}\n"),
    ),
    Code(
        "GL321", "data cannot be read",
        "The files behind `source` are missing or hold something that is not a task.",
        "The message names file, task and cell; nothing is left out silently.",
        over("data: {arc1: {source: ./no-such-folder}}\n"), Example(HEAD),
    ),
    Code(
        "GL322", "language model cannot be read",
        "The weights' configuration cannot be found or read.",
        "Widths come from it, before anything is loaded. `gridloom models list` shows what is ready.",
        over("models: {llama: {weights: ./no-such-model}}\n"), Example(HEAD),
    ),
    Code(
        "GL323", "text longer than the context",
        "Prompt, latent prefix and new tokens together exceed the positions that the language model knows.",
        "Beyond these positions the model's answers are noise, or it fails.",
        over("models: {llama: {max_prompt_tokens: 2040}}\n"), over("models: {llama: {max_prompt_tokens: 1500}}\n"),
    ),
    Code(
        "GL324", "checkpoint cannot be read",
        "The folder of a checkpoint stage holds no whole checkpoint: a file is missing or of another size, or the "
        "heads of its weight files differ from bundle.json. No weights are read for this.",
        "It would fail when it is loaded, after everything before it has run.",
        over("stages: {given: {kind: checkpoint, path: ./no-such-folder}}\n"), Example(HEAD),
    ),
    Code(
        "GL325", "weights not on this machine",
        "A spec names a well-known language model that was not downloaded. Its widths are published, so it compiles.",
        "Shapes, costs and lengths are checked without it, but running needs it. Once there, keys name its commit.",
        over("models: {llama: {weights: org/published}}\n"), Example(HEAD), severity="warning",
    ),
    Code(
        "GL326", "package not installed",
        "A stage has `wandb`, or a language model `lora` or `quantize`, and the package behind it is not installed "
        "where the spec is compiled.",
        "gridloom does without them until they are asked for. Compiling on another machine than the run's stays "
        "possible; there the stage would stop when it begins.",
        over("stages: {pretrain: {wandb: {}}}\n"), Example(HEAD), severity="warning",
    ),
    Code(
        "GL327", "weights quantised already",
        "A language model has `quantize`, and its files hold weights that were quantised before.",
        "Weights are rounded to 4 bits once, from whole ones. Quantised files run as they are, without `quantize`.",
        over("models: {llama: {weights: ./small, quantize: nf4}}\n"), over("models: {llama: {quantize: nf4}}\n"),
    ),
    Code(
        "GL330", "nothing to solve",
        "A solve stage reads a dataset that holds no answers out.",
        "Solving is judged on held-out test inputs; there would be none.",
        over("data: {arc1: {holdout: []}}\n"), over("data: {arc1: {holdout: [training]}}\n"),
    ),
    Code(
        "GL331", "unknown split",
        "`split` names a subset that the dataset does not read.",
        "No task would be solved.",
        over("stages: {solve: {split: trianing}}\n"), over("stages: {solve: {split: training}}\n"),
    ),
    Code(
        "GL332", "split is not held out",
        "`split` names a subset whose answers are training material.",
        "Solving training tasks measures nothing.",
        over(_PARTS % "easy, hard" + "stages: {solve: {split: easy}}\n"),
        over(_PARTS % "easy, hard" + "stages: {solve: {split: hard}}\n"),
    ),
    Code(
        "GL333", "unknown subset",
        "`subsets` names a subset that the source does not have.",
        "Reading none in its place would train on fewer tasks than you think.",
        over(_PARTS % "eazy, hard"), over(_PARTS % "easy, hard"),
    ),
    Code(
        "GL334", "hold-out that is not read",
        "`holdout` names a subset that `subsets` does not.",
        "Such a hold-out has no effect.",
        over("data: {arc1: {holdout: [training, evaluation]}}\n"), over("data: {arc1: {holdout: [training]}}\n"),
    ),
    Code(
        "GL335", "setting of a generator beside a source",
        "Mazes or sudokus are read from a source, and a setting describes how to generate them.",
        "Every puzzle of the source is taken; the setting would seem to choose among them.",
        over("data: {sudokus: {kind: sudoku, source: ./my-sudokus, max_clues: 24}}\n"),
        over("data: {sudokus: {kind: sudoku, source: ./my-sudokus}}\n"), severity="warning",
    ),
    Code(
        "GL336", "answers that are not known",
        "A score, evaluate or calibrate stage judges by right answers, and the files of some tasks have none.",
        "Tasks with secret answers can be solved, but results without the answers cannot be scored.",
        over(_SECRET), over(_SECRET + "stages: {score: null}\n"),
    ),
    Code(
        "GL340", "verifier without demonstrations",
        "leave_one_out has a weight, but no demonstration is kept from training.",
        "It judges by demonstrations that the TRM has never seen; without any it takes no part.",
        over("data: {arc1: {check_demos: 0}}\n"), over("data: {arc1: {check_demos: 1}}\n"), severity="warning",
    ),
    Code(
        "GL341", "another canvas than in training",
        "A stage lays its tasks on a canvas of another size than its checkpoint was trained on.",
        "A TRM has one sequence length: the prefix and every cell of the canvas.",
        over(_NEW % 20 + "stages: {joint: {data: more}, solve: {data: more}}\n"),
        over(_NEW % 11 + "stages: {pretrain: {data: more}, joint: {data: more}, solve: {data: more}}\n"),
    ),
    Code(
        "GL342", "tasks that training has not seen",
        "A solve stage has tasks that its checkpoint was not trained on.",
        "A TRM never sees demonstrations beside a test input: it knows a task by the embedding learnt from them.",
        over(_NEW % 11 + "stages: {solve: {data: more}}\n"),
        over(_NEW % 11 + "stages: {pretrain: {data: more}, joint: {data: more}, solve: {data: more}}\n"),
    ),
    Code(
        "GL343", "checkpoint of other data",
        "A stage uses a checkpoint on data of another kind, row length or vocabulary than it was trained on.",
        "Tokens would mean something else, or lie outside the network's table. Sequences may be longer or shorter "
        "where the network runs on rows of any length.",
        over(_PUZZLES % ("sudokus", "sudoku", "pretrain", "sudokus")),
        over(_PUZZLES % ("sudokus", "sudoku", "small", "sudokus")),
    ),
    Code(
        "GL344", "rows of another form",
        "A train stage reads a dataset without rows of the form that its network reads.",
        "Most networks read tokens; an act_rnn reads vectors too. A dataset has rows of tokens, of vectors, or both.",
        over(_PUZZLES % ("numbers", "sort", "small", "numbers")),
        over(_PUZZLES % ("words", "copy", "small", "words")),
    ),
    Code(
        "GL345", "checkpoint of another network",
        "A joint_train stage starts from a given checkpoint whose network is of another kind or width than its "
        "adapters are made for.",
        "Adapters write and read its carry: z_H and z_L, as wide as the network.",
        over("stages: {given: {kind: checkpoint, path: ./wide}, joint: {trm: given}}\n"),
        over("stages: {given: {kind: checkpoint, path: ./trained}, joint: {trm: given}}\n"),
    ),
    Code(
        "GL346", "options of another evaluation",
        "An evaluate stage on mazes, sudokus or sequences has `split`, `views` or `early_stop`.",
        "They steer votes over views of ARC tasks; other rows are answered once.",
        over((_PUZZLES % ("sudokus", "sudoku", "small", "sudokus"))
             .replace("stages: {", "stages: {judge: {kind: evaluate, with: puzzles, data: sudokus, views: 8}, ")),
        over((_PUZZLES % ("sudokus", "sudoku", "small", "sudokus"))
             .replace("stages: {", "stages: {judge: {kind: evaluate, with: puzzles, data: sudokus, limit: 8}, ")),
    ),
    Code(
        "GL347", "calibration without a TRM",
        "A calibrate stage measures a solve with a language model alone, or such a solve names a calibration.",
        "Attempts that are text alone are judged by rules and never accepted: there is no threshold to set.",
        over("stages: {text: {kind: solve, with: llama, data: arc1}, measure: {kind: calibrate, attempts: text}}\n"),
        over("stages: {text: {kind: solve, with: llama, data: arc1}, measure: {kind: calibrate, attempts: solve}}\n"),
    ),
    Code(
        "GL348", "one checkpoint twice in an ensemble",
        "`ensemble` names a checkpoint that votes already, or a stage that makes the same one: trainings with the same "
        "settings and seed do.",
        "Its votes would count twice, and the report would list more members than there are.",
        over("stages: {judge: {kind: evaluate, with: pretrain, data: arc1, ensemble: [pretrain]}}\n"),
        over("stages:\n  again: {kind: train, model: trm, data: arc1, seed: 1}\n"
             "  judge: {kind: evaluate, with: pretrain, data: arc1, ensemble: [again]}\n"),
    ),
    Code(
        "GL349", "validation that cannot be done",
        "`validate` names no rows or names them twice, a split that the data lacks, or a metric or option of other "
        "data.",
        "Rows are held apart by a split or by a share. Votes and pass@k belong to ARC tasks, exact rows to all others.",
        over("stages: {pretrain: {validate: {every: 50}}}\n"),
        over("stages: {pretrain: {validate: {every: 50, share: 0.1}}}\n"),
    ),
    Code(
        "GL350", "does not fit the device",
        "The estimate of a stage's peak memory exceeds twice what the device has; a warning where it exceeds the "
        "memory by less.",
        "It would fail after the time it takes to get there. The estimate is printed with its assumptions.",
        Example(HEAD, speeds=_SMALL), Example(HEAD, speeds=_LARGE),
    ),
    Code(
        "GL351", "longer than the walltime",
        "The expected time of all stages exceeds the walltime.",
        "A stopped run saves its state and continues when it is run again, so this only warns.",
        Example(HEAD, speeds=_LARGE, walltime_s=1), Example(HEAD, speeds=_LARGE, walltime_s=1e7),
        severity="warning",
    ),
    Code(
        "GL360", "pondering that only the limit ends",
        "The initial bias of a halting unit is so low that its probabilities cannot sum to 1 - `halt_epsilon` within "
        "`halt_max_steps`.",
        "Until the halting unit has learnt otherwise, every input costs all steps.",
        over("models: {rnn: {kind: act_rnn, halt_max_steps: 20, halt_bias: -20.0}}\n"),
        over("models: {rnn: {kind: act_rnn, halt_max_steps: 20, halt_bias: -2.0}}\n"),
        severity="warning",
    ),
    Code(
        "GL366", "nothing is scored",
        "A sequence task asks for nothing: the running sum of `addition` begins with the second number.",
        "Training would have no target, and an evaluation nothing to count.",
        over(_LONE % 1), over(_LONE % 2),
    ),
    Code(
        "GL374", "steps and epochs",
        "A training has `steps` and `epochs`.",
        "Each says how long it lasts.",
        over("stages: {pretrain: {steps: 100, epochs: 2}}\n"), over("stages: {pretrain: {steps: 100}}\n"),
    ),
    Code(
        "GL375", "epochs of endless data",
        "A training has `epochs`, but its data is a stream without end, or has no training rows.",
        "There is no pass over it.",
        over(_PUZZLES % ("bits", "copy", "small, epochs: 2", "bits")),
        over(_PUZZLES % ("bits", "copy", "small, steps: 2", "bits")),
    ),
    Code(
        "GL401", "training on held-out answers",
        "A stage behind a solve trains on answers that the solve's dataset holds out: the same task or test pair, "
        "possibly turned, mirrored, recoloured or under another name, also as a demonstration. So did a given "
        "checkpoint whose bundle records the pairs that it was trained on. A test input with another output is a "
        "warning, and so is a small pair recoloured, which can be chance.",
        "The score would count memorised answers.",
        over(_OPEN % "" + "stages: {pretrain: {data: open}}\n"),
        over(_OPEN % "training" + "stages: {pretrain: {data: open}}\n"),
    ),
    Code(
        "GL402", "one task on both sides",
        "A held-out task or test pair of a dataset is, up to rotation, reflection and colours, also in what the "
        "dataset gives to training, and no stage of this spec trains on it. Where one does, GL401 refuses it, but for "
        "the two test pairs that the published ARC-1 has twice.",
        "Its answer is training material under another name.",
        over(_TWICE % "training, evaluation"), over(_TWICE % "evaluation"), severity="warning",
    ),
    Code(
        "GL403", "oracle in a solver",
        "A solve stage asks for a judge that knows the held-out answers.",
        "Its verdicts measure nothing on unseen tasks. In joint_train `feedback: oracle` is allowed, for training.",
        over("stages: {solve: {solver: {verifier: {oracle: 1}}}}\n"),
        over("stages: {solve: {solver: {verifier: {leave_one_out: 1}}}}\n"),
    ),
    Code(
        "GL404", "test puzzles met in training",
        "A checkpoint is evaluated on generated test puzzles that its training can meet: sudokus that are kept apart "
        "by their cells and shuffled, or another set of the same seed.",
        "Part of the score would be memory: training met 545 of 1,000 test sudokus of size 4 within 360 steps.",
        over(_JUDGED % "shuffle: true"), over(_JUDGED % "shuffle: false"), severity="warning",
    ),
    Code(
        "GL405", "calibrated on its own tasks",
        "A solve stage accepts from a score that a calibrate stage set with the answers of tasks it answers itself.",
        "Its outcome would depend on held-out answers. Turned, mirrored and recoloured tasks count as the same.",
        over(_KNOWN + "  again: {kind: solve, with: joint, data: arc1, calibration: measure}\n"),
        over(_KNOWN + "  again: {kind: solve, with: joint, data: arc1}\n"),
    ),
    Code(
        "GL406", "validation on answers that are scored",
        "Training validates on a held-out subset, or on the test puzzles or the test stream that an evaluation of its "
        "weights counts.",
        "The weights would be chosen by the answers, and the score would be too high.",
        over("stages: {pretrain: {validate: {split: training}}}\n"),
        over("stages: {pretrain: {validate: {share: 0.1}}}\n"),
    ),
)  # fmt: skip
