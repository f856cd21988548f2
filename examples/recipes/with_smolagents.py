"""smolagents under Turnlock: each task of an agent is a turn of its session."""

from smolagents import ActionStep, CodeAgent, OpenAIModel, TaskStep
from smolagents.monitoring import Timing

import turnlock


def answer(store: turnlock.Store, key: str, text: str, model: OpenAIModel) -> str:
    turnlock.guard(model.client)
    # It sleeps for minutes, in the turn, on any error that has "429" in it: a turn's id may.
    model.retryer.max_attempts = 1
    agent = CodeAgent([], model, verbosity_level=-1)
    with store.turn(key) as turn:
        for one in turn.messages():
            if one["role"] == "user":
                agent.memory.steps.append(TaskStep(one["content"]))
            elif one["role"] == "assistant" and one["content"]:
                agent.memory.steps.append(ActionStep(1, Timing(0.0), model_output=one["content"]))
        turn.append(turnlock.user(text))
        reply = str(agent.run(text, reset=False))
        turn.append(turnlock.assistant(reply))
        return reply
